"""What of this computer's files goes to a machine: what a folder holds, which files were searched already, and the store of packed trees.

Knows no provider, no machine and no job; `launchers/snapshot.py` puts it together.
"""

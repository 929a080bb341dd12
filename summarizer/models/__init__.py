"""What is trained: our own copy transformer and the models of the hub, built and loaded by config.

Must not know corpora, training loops or job folders.
"""

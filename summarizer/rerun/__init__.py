"""Reruns: what a run keeps of itself is rebuilt, run again, and compared with what it measured.

- `source`: the run's code as a git worktree: commit, uncommitted changes, new files
- `download`: the small files of a run that lies in a storage
- `agreement`: which figures agree, to the bit or within the interval
- `task`: both, in order

Must not know what is trained: it starts the same command line again.
"""

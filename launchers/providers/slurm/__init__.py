"""Slurm through hydra-submitit-launcher's settings and submitit: jobs wait in a queue, on this cluster or behind a login node.

`shell.py` runs commands there, `cluster.py` reads Slurm's answers, `host.py` submits and follows jobs, `provider.py` is the
interface. `on_cluster/` is what runs there: it is copied to the cluster and must import nothing of this package.
"""

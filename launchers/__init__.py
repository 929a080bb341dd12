"""The logistics: takes any Hydra job to a machine, rented or this one, and its results home again.

It must not know what a job computes: a job is a folder, a command and files of text, and everything else
(which files are checkpoints, which number is the result) comes from the launcher's config.
"""

"""What runs on the cluster: copied there beside the agent, so every module here imports the standard library, submitit and each
other's names without a package.
"""

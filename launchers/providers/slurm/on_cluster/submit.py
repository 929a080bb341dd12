"""Submits one job, through submitit: reads what to do as JSON from standard input and prints the job's id in the queue.

What stands under "secrets" becomes the environment of `sbatch`, which Slurm gives to the job; no file holds it.
"""

import json
import os
import sys


def main():
    folder = os.path.dirname(os.path.abspath(__file__))
    request = json.loads(sys.stdin.read())
    os.environ.update(request["secrets"])
    # Slurm gives the job this environment, in which Python finds the class that is submitted.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    import submitit
    from job import QueuedJob

    executor = submitit.AutoExecutor(
        folder=request["folder"], cluster="slurm", slurm_max_num_timeout=request["requeues"]
    )
    executor.update_parameters(**request["executor"])
    submitted = executor.submit(QueuedJob(**request["job"]))
    print("submitted", submitted.job_id)


if __name__ == "__main__":
    main()

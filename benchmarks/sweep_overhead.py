"""What a sweep costs beside its jobs: seconds and memory per job of a grid of trivial jobs, on this machine.

    pip install hydra-joblib-launcher hydra-submitit-launcher    # for the comparison only: the project does not depend on them
    PYTHONPATH=.:launchers python benchmarks/sweep_overhead.py [--jobs 100 1000] [--ways ours hydra joblib submitit]

Runs the example app of `tests/launchers` with `steps=0` over a grid, by our sweeper and launcher, by Hydra's own (BasicSweeper,
BasicLauncher), by hydra-joblib-launcher with two processes and by hydra-submitit-launcher's local executor, by turns in the same run.
Memory is that of the largest process. Prints one JSON line per way and size: seconds per job and peak memory in MB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WAYS = {
    "ours": ["hydra/sweeper=search"],
    "hydra": ["hydra/sweeper=basic", "provider=foreign"],
    "joblib": ["hydra/sweeper=basic", "provider=foreign", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit": ["hydra/sweeper=basic", "provider=foreign", "hydra/launcher=submitit_local"],
}


def measure(way: str, jobs: int) -> dict[str, object]:
    """One sweep in a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "tests/launchers/example/descent", Path(folder) / "descent")
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'launchers'}", "LAUNCHERS_HOME": f"{folder}/home"
        }  # fmt: skip
        command = [sys.executable, "-m", "descent", "-m", *WAYS[way], f"seed=range(0,{jobs})", "steps=0"]
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, f"{way} failed"
        seconds = time.monotonic() - began
    return {
        "way": way, "jobs": jobs, "seconds": round(seconds, 2), "seconds_per_job": round(seconds / jobs, 4),
        "memory_mb": round(usage.ru_maxrss / 1024),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["ours", "hydra"])
    arguments = parser.parse_args()
    for jobs in arguments.jobs:
        for way in arguments.ways:
            print(json.dumps(measure(way, jobs)), flush=True)


if __name__ == "__main__":
    main()

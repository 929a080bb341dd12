"""What a sweep on rented machines costs beside its jobs: the launch core's own seconds, memory and API calls per job, on ten machines.

    PYTHONPATH=.:launchers python benchmarks/rented_sweep_overhead.py [--jobs 100 1000] [--machines 10]
    PYTHONPATH=.:launchers python benchmarks/rented_sweep_overhead.py --real 20 60    # needs root, as the slow tests do

The first runs the real scheduler, ledger, downloads and deadlines against the fake market and machines of `launchers.testing`, in virtual
time: its seconds are all overhead. The second runs sweeps of the example app through the command line on emulated Vast.ai machines,
each with a real ssh server: there the jobs' processes share this machine's cores, so that its seconds hold them. Prints one JSON
line per size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def in_virtual_time(jobs: int, machines: int) -> dict[str, object]:
    """Of one process for each size, whose peak memory is its own."""
    from launchers.job import JobState
    from launchers.testing.clock import VirtualClock
    from launchers.testing.jobs import Script
    from launchers.testing.launch import FakeLaunch, Schedule

    with tempfile.TemporaryDirectory() as folder:
        launch = FakeLaunch(
            Path(folder) / "launch", Schedule(jobs=jobs, machines=machines, script=Script(steps=2)), VirtualClock()
        )
        began = time.monotonic()
        launch.run()
        seconds = time.monotonic() - began
    assert set(launch.first_ends) == {JobState.finished}
    of_market = {"search", "create", "status", "list", "destroy", "extend", "balance"}
    calls = sum(number for verb, number in launch.faults.counts.items() if verb in of_market)
    return {
        "way": "virtual time", "jobs": jobs, "machines": machines, "seconds_per_job": round(seconds / jobs, 4),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "api_calls_per_job": round(calls / jobs, 2),
    }  # fmt: skip


def on_emulated_machines(jobs: int, machines: int) -> dict[str, object]:
    """One sweep through the command line."""
    from tests.emulators.vast import Vast

    with tempfile.TemporaryDirectory() as name, Vast(Path(name) / "market") as market:
        folder = Path(name)
        market.offers = [market.offers[0] | {"id": 1000 + number} for number in range(machines)]
        project = folder / "project"
        shutil.copytree(ROOT / "tests/launchers/example", project, ignore=shutil.ignore_patterns("__pycache__"))
        (project / ".gitignore").write_text("outputs/\n__pycache__/\n")
        subprocess.run(["git", "init", "--quiet", str(project)], check=True)
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'launchers'}", "VAST_API_KEY": market.key, "LAUNCHERS_HOME": str(folder / "home")
        }  # fmt: skip
        command = [
            sys.executable, "-m", "descent", "-m", "hydra/sweeper=search", "provider=vast", f"provider.api_url={market.url}",
            f"provider.python={sys.executable}", f"provider.machines={machines}", f"seed=range(0,{jobs})", "steps=0",
        ]  # fmt: skip
        began = time.monotonic()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
            _, status, usage = os.wait4(process.pid, 0)
        assert status == 0, (folder / "log").read_text()[-2000:]
        seconds, calls, rented = time.monotonic() - began, len(market.requests), len(market.history)
    return {
        "way": "emulated Vast.ai", "jobs": jobs, "machines": rented, "seconds_per_job": round(seconds / jobs, 3),
        "client_cpu_s_per_job": round((usage.ru_utime + usage.ru_stime) / jobs, 3), "memory_mb": round(usage.ru_maxrss / 1024),
        "api_calls_per_job": round(calls / jobs, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--machines", type=int, default=10)
    parser.add_argument("--real", type=int, nargs="+", help="sizes of sweeps on emulated machines instead")
    arguments = parser.parse_args()
    if arguments.real:
        for jobs in arguments.real:
            print(json.dumps(on_emulated_machines(jobs, arguments.machines)), flush=True)
    elif len(arguments.jobs) == 1:
        print(json.dumps(in_virtual_time(arguments.jobs[0], arguments.machines)), flush=True)
    else:
        for jobs in arguments.jobs:
            subprocess.run(
                [sys.executable, __file__, "--jobs", str(jobs), "--machines", str(arguments.machines)], check=True
            )


if __name__ == "__main__":
    main()

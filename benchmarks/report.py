"""How long report.html takes on one core, and how large it is: of one run, and of 100 runs compared.

    python benchmarks/report.py [--rows 1354] [--steps 2000] [--runs 100]

Runs are made up, in the size of the default job: rows of the test split, steps logged every 20. Prints one JSON line per page and
exits with 1 where a page is above its limit: 2 s of processor time and 2 MB for a run, 5 MB (and 2 s per run) for a comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from summarizer.report.build import compared, write_comparison, write_run_report
from tests.summarizer.report.folders import make_run

RUN_BYTES, COMPARISON_BYTES, SECONDS_PER_RUN = 2e6, 5e6, 2.0


def measured(name: str, runs: int, limit: float, build: Callable[[], Path]) -> bool:
    """Print one page's figures; whether it is within its limits."""
    started = time.process_time()
    page = build()
    seconds, size = time.process_time() - started, page.stat().st_size
    fits = size <= limit and seconds <= SECONDS_PER_RUN * runs
    print(json.dumps({"page": name, "cpu_seconds": round(seconds, 2), "megabytes": round(size / 1e6, 3), "fits": fits}))
    return fits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1354)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        folders = [
            make_run(
                here / "sweep" / str(i), lr=1e-3 * (i + 1), quality=0.2 + 0.002 * i, rows=options.rows, steps=options.steps,
                cost=0.1 * (i + 1),
            )
            for i in range(options.runs)
        ]  # fmt: skip
        write_run_report(folders[0])  # imports and templates are paid once per process
        fits = [
            measured("one run", 1, RUN_BYTES, lambda: write_run_report(folders[-1])),
            measured(
                f"{options.runs} runs", options.runs, COMPARISON_BYTES,
                lambda: write_comparison(
                    compared([str(here / "sweep")], "validation/rougeL", True), here / "all.html", "all runs"
                ),
            ),
        ]  # fmt: skip
    sys.exit(0 if all(fits) else 1)


if __name__ == "__main__":
    main()

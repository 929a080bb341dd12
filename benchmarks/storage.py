"""What a storage costs a training: the same job without and with `storage=`, one after the other, by turns.

    python benchmarks/storage.py [--rounds 2] [--address s3://bucket/prefix] [overrides, such as hardware=h100]

Without an address the storage is a folder of its own; `--s3` starts a server on loopback, which takes its part of the processor.
Prints one JSON line per job (seconds of training, MB stored) and one with the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from summarizer.metric_names import TRAINING_SECONDS


def train(overrides: list[str], folder: Path) -> dict[str, float]:
    """The metrics of one job."""
    command = [sys.executable, "-m", "summarizer", "callbacks.progress=false", *overrides, f"hydra.sweep.dir={folder}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found: dict[str, float] = json.loads((folder / "0" / "metrics.json").read_text())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--address")
    parser.add_argument("--s3", action="store_true")
    options, overrides = parser.parse_known_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = options.address or str(home / "bucket")
        if options.s3:
            from tests.emulators.s3 import BUCKET, s3_server

            os.environ.update(stack.enter_context(s3_server()))
            address = f"s3://{BUCKET}/benchmark"
        seconds: dict[str, list[float]] = {"without": [], "with": []}
        for turn in range(options.rounds):
            for kind in seconds:
                extra = [] if kind == "without" else [f"storage={address}/{turn}"]
                folder = home / f"{kind}-{turn}"
                seconds[kind].append(train([*overrides, *extra], folder)[TRAINING_SECONDS])
                stored = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
                print(
                    json.dumps({"storage": kind, "train_seconds": seconds[kind][-1], "megabytes": round(stored, 1)}),
                    flush=True,
                )
        ratio = statistics.median(seconds["with"]) / statistics.median(seconds["without"])
        print(json.dumps({"ratio": round(ratio, 4)}))


if __name__ == "__main__":
    main()

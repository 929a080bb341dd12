"""How long the command takes before it does anything, as a ratio to `import hydra` alone, in the same run.

    python benchmarks/startup.py [--runs 15]

Prints one JSON line a command: the median seconds of both, and their ratio. The runs alternate, so that a machine that
slows down slows both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

REFERENCE = ["-c", "import hydra"]
COMMANDS = {"--help": ["-m", "summarizer", "--help"], "--cfg job": ["-m", "summarizer", "--cfg", "job"]}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    for name, command in COMMANDS.items():
        seconds(REFERENCE), seconds(command)  # fill the file cache
        pairs = [(seconds(command), seconds(REFERENCE)) for _ in range(runs)]
        ours, reference = (statistics.median(column) for column in zip(*pairs, strict=True))
        row = {"command": name, "seconds": round(ours, 3), "import_hydra_seconds": round(reference, 3)}
        print(json.dumps(row | {"ratio": round(ours / reference, 2)}))


if __name__ == "__main__":
    main()

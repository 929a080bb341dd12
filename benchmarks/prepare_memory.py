"""Memory that preparing a data set takes, for generated sets of growing size.

    python benchmarks/prepare_memory.py --mib 100 400

Prints one JSON line a size: the set's size, the peak of anonymous memory of all processes (mapped files do not count: the
kernel drops their pages when it needs them) and the ratio of that peak to the first size's. Linux only.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = 20_000
WORDS_A_DOCUMENT = 800


def write_set(path: Path, mib: float, seed: int) -> int:
    """Rows of random words until the file has the size; returns their number."""
    rng = random.Random(seed)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 10))) for _ in range(WORDS)]
    rows, size = 0, 0
    with path.open("w") as file:
        while size < mib * 2**20:
            words = rng.choices(vocabulary, k=WORDS_A_DOCUMENT)
            line = json.dumps({"document": " ".join(words), "summary": " ".join(words[:8])}) + "\n"
            file.write(line)
            rows, size = rows + 1, size + len(line)
    return rows


def anonymous_mib(process: int) -> float:
    """Anonymous memory of a process and its children, now."""
    total = 0.0
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += int(line.split()[1]) / 1024
        for thread in Path(f"/proc/{process}/task").iterdir():
            total += sum(anonymous_mib(int(child)) for child in (thread / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass  # ended meanwhile
    return total


def prepare(folder: Path, mib: float) -> dict[str, float]:
    rows = write_set(folder / "train.jsonl", mib, seed=0)
    write_set(folder / "held.jsonl", 0.1, seed=1)
    command = [
        sys.executable, "-m", "summarizer", "task=prepare", "data=files", f"data.train_file={folder}/train.jsonl",
        f"data.validation_file={folder}/held.jsonl", f"data.test_file={folder}/held.jsonl", f"data.cache_dir={folder}/cache",
        f"hydra.sweep.dir={folder}/run", "hardware=cpu",
    ]  # fmt: skip
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, anonymous_mib(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"preparing {mib} MiB ended with exit code {process.returncode}")
    return {"mib": mib, "rows": rows, "peak_mib": round(peak), "seconds": round(time.monotonic() - started, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=float, nargs="+", default=[100, 400], help="sizes of the train split, smallest first")
    first = 0.0
    for mib in parser.parse_args().mib:
        with tempfile.TemporaryDirectory() as folder:
            measured = prepare(Path(folder), mib)
        first = first or measured["peak_mib"]
        print(json.dumps({**measured, "ratio": round(measured["peak_mib"] / first, 2)}), flush=True)


if __name__ == "__main__":
    main()

"""Training on several devices through the command line: tokens per second against one device.

    python benchmarks/devices.py                                   # T5 base: one device, DDP on two
    python benchmarks/devices.py --size large --ways one ddp fsdp --epochs 2
    python benchmarks/devices.py --size tiny --rows 300 -- hardware=cpu    # to try this script

Each way is one whole job of `python -m summarizer` on the same made-up documents of CNN/DailyMail's lengths, with random weights
and the same effective batch, so that the devices share one step's documents. Rates are the median of the logged windows in the
second half of the training: compilation, validation and checkpoints are outside of them. One JSON line a job.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.whole_job import WORDS, write_model, write_rows  # noqa: E402  needs the path above

RATE = "train/tokens_per_second"
WAYS = {
    "one": ["hardware.devices=1"],
    "ddp": ["trainer=ddp", "hardware.devices=2"],
    "fsdp": ["trainer=fsdp", "hardware.devices=2"],
}


def windows(job: Path) -> list[float]:
    """Tokens per second of each logged window, in order."""
    files = sorted((job / "logs").rglob("metrics.csv"))
    with files[-1].open() as file:
        return [float(row[RATE]) for row in csv.DictReader(file) if row.get(RATE)]


def train(way: str, folder: Path, options: argparse.Namespace) -> dict[str, float | str]:
    """Run one job to its end; returns its rate."""
    splits = [f"data.{split}_file={folder}/{split}.jsonl" for split in ("train", "validation", "test")]
    command = [
        sys.executable, "-m", "summarizer", "data=files", *splits, f"data.cache_dir={folder}/cache", f"hydra.sweep.dir={folder}/{way}",
        "model=t5_base", f"model.hub_id={folder}/model", "model.pretrained=false", f"trainer.max_epochs={options.epochs}",
        f"optim.effective_batch_size={options.batch}", "trainer.log_every_n_steps=4", "trainer.validations=1",
        "trainer.validation_samples=16", "generation.num_beams=1", "evaluation.splits=[]", "callbacks.progress=false",
        *WAYS[way],
    ]  # fmt: skip
    if options.size == "tiny":
        command += ["model.max_source_tokens=64", "model.max_target_tokens=16", "trainer.batch_size=8"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "launchers"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    code = subprocess.run([*command, *options.overrides], cwd=ROOT, env=environment, stdout=sys.stderr).returncode
    if code:
        sys.exit(f"{way} ended with exit code {code}")
    rates = windows(folder / way / "0")
    steady = rates[len(rates) // 2 :]
    return {
        "size": options.size, "way": way, "tokens_per_second": statistics.median(steady), "windows": len(steady),
        "job_seconds": time.monotonic() - began,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["tiny", "base", "large"], default="base")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=["one", "ddp"])
    parser.add_argument("--rows", type=int, default=6000, help="documents to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=256, help="documents of an optimizer step, over all devices")
    parser.add_argument("overrides", nargs="*", help="after --: given to every job")
    options = parser.parse_args()
    first = None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (split, count) in enumerate({"train": options.rows, "validation": 64, "test": 16}.items()):
            write_rows(folder / f"{split}.jsonl", count, WORDS["t5"], seed)
        write_model(folder / "model", "t5", options.size, folder / "train.jsonl")
        for way in options.ways:
            row = train(way, folder, options)
            first = first or float(row["tokens_per_second"])
            row["against_first"] = float(row["tokens_per_second"]) / first
            print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()

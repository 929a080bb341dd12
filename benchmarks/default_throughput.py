"""The default job's training throughput against transformers' Seq2SeqTrainer, on the same model, documents and batch size.

    python benchmarks/default_throughput.py [--steps 200] [--rounds 2] [overrides ...]

Ours is `python -m summarizer trainer.max_steps=STEPS`, as its metrics.json counts it. The reference takes the same
documents in random order, padded to the longest of a batch, with the best of the given numbers of loader workers; once in
float32, as it comes, and once with bf16=True. They alternate, so that a machine that slows down slows all. Prints one JSON
line a round and side, and last the ratios of the best rounds in documents a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reference_trainer
from benchmarks.jobs import prepared_job
from benchmarks.shapes import emit

FEW = [
    "data.max_test_samples=16",
    "data.max_validation_samples=16",
    "trainer.validations=1",
    "callbacks.progress=false",
]


class Shuffled:
    """The train split's documents in random order."""

    def __init__(self, split: Any) -> None:
        self.split, self.order = split, np.random.default_rng(0).permutation(len(split))
        self.source_lengths, self.target_lengths = split.source_lengths[self.order], split.target_lengths[self.order]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        row = int(self.order[index])
        return self.split.source(row), self.split.target(row)


def ours(steps: int, overrides: list[str]) -> dict[str, float]:
    """What the command measured of itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "summarizer", f"trainer.max_steps={steps}", *FEW, f"hydra.sweep.dir={folder}"]
        subprocess.run([*command, *overrides], check=True, stdout=subprocess.DEVNULL)
        return dict(json.loads((Path(folder) / "0" / "metrics.json").read_text()))


def reference(steps: int, overrides: list[str], workers: int, bf16: bool) -> dict[str, Any]:
    """The Trainer on a fresh model of the same config."""
    from summarizer.hardware import set_threads
    from summarizer.models.loading import build_model

    config, device, prepared = prepared_job(overrides)
    set_threads(config.trainer.threads)
    torch.manual_seed(config.seed)
    model = build_model(config.model, prepared.tokenizer, config.hardware.attention).train()
    row = reference_trainer.measure(
        model, Shuffled(prepared.splits["train"]), config.trainer.batch_size, steps, torch.device(device.accelerator), workers,
        bf16,
    )  # fmt: skip
    assert row is not None, "the reference's memory did not suffice"
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 4], help="loader processes of the reference")
    parser.add_argument("overrides", nargs="*", default=[], help="of the job, on both sides")
    arguments = parser.parse_args()
    trainer, trainer_bf16 = "Seq2SeqTrainer", "Seq2SeqTrainer, bf16"
    best: dict[str, float] = {"summarizer": 0.0, trainer: 0.0, trainer_bf16: 0.0}
    for number in range(arguments.rounds):
        for workers in arguments.workers:
            for name in (trainer, trainer_bf16):
                row = reference(arguments.steps, arguments.overrides, workers, name == trainer_bf16)
                emit(row=name, round=number, workers=workers, documents_per_s=row["documents_per_s"],
                     tokens_per_s=row["tokens_per_s"])  # fmt: skip
                best[name] = max(best[name], row["documents_per_s"])
        metrics = ours(arguments.steps, arguments.overrides)
        emit(row="summarizer", round=number, documents_per_s=metrics["train/documents_per_second"],
             tokens_per_s=metrics["train/tokens_per_second"], non_padding_share=metrics["train/non_padding_share"])  # fmt: skip
        best["summarizer"] = max(best["summarizer"], metrics["train/documents_per_second"])
    emit(
        row="best", **best, ratio=best["summarizer"] / best[trainer], ratio_bf16=best["summarizer"] / best[trainer_bf16]
    )


if __name__ == "__main__":
    main()

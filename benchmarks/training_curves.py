"""Do packed and padded training learn the same? Validation curves of a small model from scratch, by several seeds each.

    python benchmarks/training_curves.py --model bart --steps 800 --seeds 4 data=debsum hardware=h100

Every run is `python -m summarizer`, with dropout, precision and kernels as a user gets them; only `trainer.packing` and `seed`
differ. Prints one JSON line a validation, with the mean of the validation loss over the seeds and its standard deviation for
either way, and their distance: the difference of the means over its standard error (Welch's t). Seeds alone exceed 2.5 in one
of twenty comparisons of four runs with four.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.jobs import prepared_job
from benchmarks.shapes import emit

WAYS = ("always", "never")


def fresh_model(family: str, overrides: list[str], folder: Path) -> None:
    """A small model's config and the default model's tokenizer for this corpus, as a folder that `model.hub_id` takes."""
    import transformers

    tokenizer = prepared_job(overrides)[2].tokenizer
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config: Any
    if family == "t5":
        config = transformers.T5Config(
            vocab_size=len(tokenizer), d_model=256, d_kv=64, d_ff=1024, num_layers=4, num_decoder_layers=4, num_heads=4,
            decoder_start_token_id=tokenizer.pad_token_id, **ids,
        )  # fmt: skip
    else:
        config = transformers.BartConfig(
            vocab_size=len(tokenizer), max_position_embeddings=1024, d_model=256, encoder_layers=4, decoder_layers=4,
            encoder_ffn_dim=1024, decoder_ffn_dim=1024, encoder_attention_heads=4, decoder_attention_heads=4,
            attention_dropout=0.1, activation_dropout=0.1, bos_token_id=tokenizer.bos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id, forced_eos_token_id=None, **ids,
        )  # fmt: skip
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def curve(
    model: Path, family: str, way: str, seed: int, steps: int, validations: int, overrides: list[str]
) -> list[float]:
    """Validation losses of one run, in the order of its validations."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "summarizer", f"model={'t5_small' if family == 't5' else 'bart_base'}",
            f"model.hub_id={model}", "model.pretrained=false", f"trainer.packing={way}", f"seed={seed}", "optim.lr=5e-4",
            f"trainer.max_steps={steps}", f"trainer.validations={validations}", "trainer.validation_samples=16",
            "trainer.max_epochs=30", "data.max_test_samples=16", "callbacks.progress=false", f"hydra.sweep.dir={folder}",
        ]  # fmt: skip
        done = subprocess.run([*command, *overrides], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{way}, seed {seed}: {done.stderr[-2000:]}")
        with next(Path(folder).rglob("metrics.csv")).open() as file:
            return [float(row["validation/loss"]) for row in csv.DictReader(file) if row.get("validation/loss")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bart", choices=["bart", "t5"])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--validations", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time on this device")
    arguments, overrides = parser.parse_known_args()
    if arguments.seeds < 2:
        parser.error("--seeds must be two or more: one curve has no deviation")
    with tempfile.TemporaryDirectory() as folder:
        fresh_model(arguments.model, overrides, Path(folder))
        with ThreadPoolExecutor(arguments.parallel) as pool:
            runs = {
                (way, seed): pool.submit(
                    curve, Path(folder), arguments.model, way, seed, arguments.steps, arguments.validations, overrides
                )
                for seed in range(1, arguments.seeds + 1)
                for way in WAYS
            }
            curves = {key: run.result() for key, run in runs.items()}
    worst = 0.0
    for number, losses in enumerate(zip(*curves.values(), strict=True), start=1):
        found = dict(zip(curves, losses, strict=True))
        row: dict[str, Any] = {"model": arguments.model, "step": number * arguments.steps // arguments.validations}
        sides = {way: [loss for (which, _), loss in found.items() if which == way] for way in WAYS}
        for way, name in zip(WAYS, ("packed", "padded"), strict=True):
            row |= {name: statistics.mean(sides[way]), f"{name}_deviation": statistics.stdev(sides[way])}
        noise = math.sqrt(sum(statistics.variance(side) for side in sides.values()) / arguments.seeds)
        row["distance"] = (row["packed"] - row["padded"]) / noise
        worst = max(worst, abs(row["distance"]))
        emit(**row)
    print(json.dumps({"model": arguments.model, "largest_distance": round(worst, 2)}), flush=True)


if __name__ == "__main__":
    main()

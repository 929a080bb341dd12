"""From a finished job to the small model that the project ships: half precision, card, metrics.

python -m summarizer.models.shipping outputs/summarizer/<time>/0
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from summarizer.paths import shipped_model_dir
from summarizer.run import Run

PUBLISHED = ("test/", "validation/", "train/steps", "train/documents")  # what of the metrics is not about one machine


def ship(job: Path, target: Path) -> None:
    """Write the job's model to `target` in float16, replacing what is there.

    Raises:
        ModelError: the job has no finished model.
    """
    from summarizer.models.loading import load_trained

    run = Run(job.expanduser().resolve())
    model, tokenizer = load_trained(run.model)
    shutil.rmtree(target, ignore_errors=True)
    model.half().save_pretrained(target)
    # the class's source, which an exported folder carries, is in the package already
    for source in target.glob("*.py"):
        source.unlink()
    config = json.loads((target / "config.json").read_text())
    config.pop("auto_map", None)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    tokenizer.save_pretrained(target)
    shutil.copy(run.model / "README.md", target / "README.md")
    published = {key: value for key, value in run.metrics().items() if key.startswith(PUBLISHED)}
    metrics = {key: value if isinstance(value, str) else round(value, 4) for key, value in published.items()}
    (target / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Ship a finished job's model with the package.")
    parser.add_argument("job", type=Path, help="folder of a finished job")
    ship(parser.parse_args().job, shipped_model_dir())


if __name__ == "__main__":
    main()

"""The page behind `--help`. Written without Hydra, whose own page takes a second to collect (`--hydra-help` shows it)."""

from __future__ import annotations

import textwrap

from summarizer.paths import config_dir

WIDTH = 120
FIRST = 28
"""Columns of an option's name; what it is comes after them."""

USAGE = """\
summarizer: train, evaluate and use a text summarizer.

  python -m summarizer                                  the default job on this machine: data, training, ROUGE, a model folder
  python -m summarizer model=t5_small data=xsum         another model on another corpus
  python -m summarizer hardware=a100 provider=modal     the same job on a rented GPU
  python -m summarizer -m optim.lr=1e-4,3e-4            a sweep: one job per value
  python -m summarizer task=predict input=article.txt   summarize a file, a folder or standard input (-)
  python -m summarizer task=evaluate run=outputs/...    evaluate a finished job again
  python -m summarizer resume=outputs/...               continue an interrupted job
  python -m summarizer task=compare runs='outputs/**'   a table of any runs, best first
  python -m summarizer task=report runs='outputs/**' --open   the same as one HTML page, with charts and samples
  python -m summarizer task=dashboard logger.entity=me  create or update the project's W&B workspace
  python -m summarizer rerun=outputs/...                run a job's own code and settings again, and compare the figures

Groups, each option a file under conf/ (group=option):
"""

CLOSING = """
Single settings are dotted keys: optim.lr=1e-4 trainer.max_steps=100 data.max_train_samples=1000

  --cfg job      print the composed config and stop         --info defaults   show where each part comes from
  -m, --multirun run every combination of comma lists       --hydra-help      Hydra's own flags
"""


def option_summary(text: str) -> str:
    """The first comment of an option file, which says what it is."""
    for line in text.splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            return line.lstrip("# ").strip()
    return ""


def help_page() -> str:
    lines = [USAGE.rstrip()]
    for group in sorted(path for path in config_dir().iterdir() if path.is_dir()):
        files = sorted(group.glob("*.yaml"))
        for number, file in enumerate(files):
            name = f"{group.name}={file.stem}" if number == 0 else f"{' ' * len(group.name)} {file.stem}"
            summary = textwrap.shorten(option_summary(file.read_text()), WIDTH - FIRST - 4, placeholder=" ...")
            lines.append(f"  {name:<{FIRST}}{summary}".rstrip())
    return "\n".join(lines) + "\n" + CLOSING.rstrip()

"""What a person reads at the start and the end of a job: rich tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from summarizer.evaluation.words import DESCRIPTIONS, PUBLISHED
from summarizer.forecast import time_text
from summarizer.metric_names import (
    DATA_WAIT_SHARE,
    NON_PADDING_SHARE,
    SHARE_OF_PEAK,
    TOKENS_PER_SECOND,
    UTILIZATION,
    utilization_in,
)
from summarizer.run import Run
from summarizer.utilization import WORKING
from summarizer.version import commit_text

TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "rougeLsum": "ROUGE-Lsum", "chrf": "chrF"}
RULES = {
    "lead1": "first sentence", "lead3": "first 3 sentences", "first8": "first 8 words", "is_a": '"X is a" rule',
    "oracle": "best sentence (oracle)",
}  # fmt: skip


def print_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], console: Console | None = None
) -> None:
    """First column to the left, the others to the right; fits 80 columns for up to five short ones."""
    console = console or Console()
    if console.is_terminal:
        table = Table(title=title, title_justify="left", show_header=any(header))
        for i, name in enumerate(header):
            table.add_column(name, justify="right" if i and len(header) > 2 else "left", overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    lines = [header, *rows] if any(header) else list(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    print(title)
    for line in lines:
        cells = [
            cell.rjust(width) if i and len(header) > 2 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())


def opening_report(
    config: Any,
    rows: Mapping[str, int | None],
    *,
    parameters: int,
    trained: int,
    accumulation: int,
    steps: int,
    folder: Path,
    hours: float | None = None,
    console: Console | None = None,
) -> None:
    """The composed job.

    Args:
        rows: documents of each split; None for a stream.
        parameters: weights of the model; `trained` of them change.
        accumulation: forward passes of a device in one optimizer step.
        steps: optimizer steps of the whole run.
        folder: of the job.
        hours: that it is expected to take; None where nothing is known.
    """
    devices, nodes = max(1, config.trainer.devices), config.hardware.nodes
    some = "" if trained == parameters else f", {trained / 1e6:,.2f} M of them trained"
    scratch = "" if config.model.pretrained else " (from scratch)"
    passes = f"{accumulation} forward pass{'es' * (accumulation > 1)} an optimizer step"
    facts = {
        "model": f"{config.model.name}{scratch}, {parameters / 1e6:,.2f} M parameters{some}",
        "data": f"{config.data.name}: "
        + ", ".join(f"{split} streamed" if count is None else f"{count:,} {split}" for split, count in rows.items()),
        "hardware": f"{config.hardware.name} x {devices}{f' on each of {nodes} nodes' if nodes > 1 else ''}, {config.hardware.precision}",
        "batch": f"up to {config.trainer.batch_size} documents a device, {passes}",
        "length": f"{steps:,} optimizer steps, at most {config.trainer.max_epochs} epochs",
        "learning rate": f"{config.optim.lr:g}, {config.scheduler.name}",
        "seed": str(config.seed),
        "code": commit_text() or f"version {metadata.version('summarizer')}",
        "folder": str(folder),
        "time": time_text(hours),
    }
    print_table("This job", ("", ""), list(facts.items()), console)


def result_rows(metrics: Mapping[str, Any], split: str) -> list[list[str]]:
    """The model first, then the baselines; an interval stands after the model's ROUGE-L."""
    rows = []
    for system, title in {"": "this model", **RULES}.items():
        prefix = f"{split}/{system}/" if system else f"{split}/"
        if f"{prefix}rougeL" in metrics:
            rows.append([title, *(f"{metrics[prefix + key]:.2f}" if prefix + key in metrics else "" for key in TITLES)])
    return rows


def closing_report(run: Run, config: Any, metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """ROUGE against the baselines, where things are, and the next commands."""
    for split in config.evaluation.splits:
        rows = result_rows(metrics, split)
        if not rows:
            continue
        title = f"Scores x 100 on {split}, {metrics.get(f'{split}/rows', 0):,.0f} rows"
        print_table(title, ("", *TITLES.values()), rows, console)
        low, high = metrics[f"{split}/rougeL_low"], metrics[f"{split}/rougeL_high"]
        print(f"  ROUGE's tokenizer: {DESCRIPTIONS[metrics.get(f'{split}/rouge_tokenizer', PUBLISHED)]}")
        print(f"  95 % interval of this model's ROUGE-L: {low:.2f} to {high:.2f}")
        if f"{split}/chrf_low" in metrics:
            low, high = metrics[f"{split}/chrf_low"], metrics[f"{split}/chrf_high"]
            print(f"  95 % interval of this model's chrF: {low:.2f} to {high:.2f}")
        gain = (metrics.get(f"{split}/is_a/rougeL_gain_low"), metrics.get(f"{split}/is_a/rougeL_gain_high"))
        if gain[0] is not None:
            print(f'  ROUGE-L above the "X is a" rule, same rows: {gain[0]:+.2f} to {gain[1]:+.2f}')
    if TOKENS_PER_SECOND in metrics:
        padding, waiting = (100 * metrics[key] for key in (NON_PADDING_SHARE, DATA_WAIT_SHARE))
        print(
            f"Training: {metrics[TOKENS_PER_SECOND]:,.0f} tokens/s, {100 - padding:.1f} % padding, "
            f"{waiting:.1f} % of the time waiting for data"
            + (f", {100 * metrics[SHARE_OF_PEAK]:.1f} % of the card's peak" if SHARE_OF_PEAK in metrics else "")
        )
    if UTILIZATION in metrics:
        stages = [
            f"{metrics[utilization_in(stage)]:.0f} % in {stage}"
            for stage in WORKING
            if utilization_in(stage) in metrics
        ]
        print(f"GPU utilization: {metrics[UTILIZATION]:.0f} % ({', '.join(stages)})")
    folder = shlex.quote(str(run.folder))
    model = run.model if run.model.exists() else None
    print_table(
        "Where things are",
        ("", ""),
        [
            ("metrics", "metrics.json"),
            *([("predictions", "predictions*.parquet")] if config.evaluation.splits else []),
            *([("model", "model/")] if model else []),
        ],
        console,
    )
    if model:
        print("Next")
        print(f"  python -m summarizer task=predict run={folder} input=-")
        print(f"  python -m summarizer task=evaluate run={folder}")

"""What the dashboard shows, as plain data: sections of panels over the names of `summarizer.metric_names`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from summarizer import metric_names as names
from summarizer.metric_names import scored
from summarizer.stages import Stage

SWEPT = ("optim.lr", "optim.weight_decay", "optim.effective_batch_size", "scheduler.warmup_ratio", "model.name", "seed")
"""Settings in the parallel coordinates of a whole project; a report has those that differ between its runs."""


class Kind(StrEnum):
    line = "line"
    bar = "bar"
    scatter = "scatter"
    parallel = "parallel"  # coordinates
    importance = "importance"
    table = "table"  # of a logged wandb.Table
    comparer = "comparer"  # of runs, by what differs


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        metrics: logged names on the vertical axis.
        x: a logged name on the horizontal one, for lines and scatters.
        settings: dotted config keys, the axes of parallel coordinates.
        by: dotted config key; values are summed over the runs that share it.
        gpu_only: a run on a processor does not log it.
    """

    kind: Kind
    title: str
    metrics: tuple[str, ...] = ()
    x: str = names.STEP
    settings: tuple[str, ...] = ()
    by: str | None = None
    gpu_only: bool = False


@dataclass(frozen=True)
class Section:
    name: str
    panels: tuple[Panel, ...]


def line(title: str, *metrics: str, x: str = names.STEP, gpu_only: bool = False) -> Panel:
    return Panel(Kind.line, title, metrics, x=x, gpu_only=gpu_only)


TRAINING = Section(
    "Training",
    (
        line("Loss", names.LOSS, names.VALIDATION_LOSS),
        line("Learning rate", names.LEARNING_RATE),
        line("Gradient norm before clipping", names.GRADIENT_NORM),
        line("Tokens per second", names.TOKENS_PER_SECOND),
        line("Share of the GPU's peak (MFU)", names.SHARE_OF_PEAK, gpu_only=True),
        line("Peak memory, GiB", names.MEMORY_GIB),
        line("Share of tokens that are no padding", names.NON_PADDING_SHARE),
        line("Share of time waiting for data", names.DATA_WAIT_SHARE),
    ),
)
QUALITY = Section(
    "Quality",
    (
        line(
            "ROUGE-L on validation, with baselines",
            scored("validation", names.BASELINE_MEASURE),
            *(scored("validation", names.BASELINE_MEASURE, rule) for rule in names.BASELINES),
        ),
        line("ROUGE-1 on validation", scored("validation", "rouge1")),
        line("ROUGE-2 on validation", scored("validation", "rouge2")),
        line("Words per summary on validation", scored("validation", names.WORDS)),
        line("New bigrams in summaries on validation, %", scored("validation", names.NOVEL)),
        Panel(
            Kind.bar,
            "ROUGE-L on test, with baselines",
            (
                scored("test", names.BASELINE_MEASURE),
                *(scored("test", names.BASELINE_MEASURE, rule) for rule in names.BASELINES),
            ),
        ),
        Panel(Kind.table, "Sample predictions", (names.SAMPLES,)),
    ),
)


def sweeps(settings: Sequence[str]) -> Section:
    """Runs by the metric of their sweep, over these settings."""
    return Section(
        "Sweeps",
        (
            Panel(Kind.parallel, "Settings and objective", (names.OBJECTIVE,), settings=tuple(settings)),
            Panel(Kind.importance, "Importance of settings for the objective", (names.OBJECTIVE,)),
            Panel(Kind.bar, "Objective per run", (names.OBJECTIVE,)),
            Panel(Kind.comparer, "Runs side by side: what differs"),
        ),
    )


MONEY = Section(
    "Money",
    (
        Panel(Kind.scatter, "ROUGE-L on test by dollars", (scored("test", "rougeL"),), x=names.DOLLARS),
        line("ROUGE-L on validation by dollars so far", scored("validation", "rougeL"), x=names.DOLLARS),
        Panel(Kind.bar, "Dollars per run", (names.DOLLARS,)),
        Panel(Kind.bar, "GPU hours by provider", (names.GPU_HOURS,), by=f"{names.RENTAL}.provider"),
        Panel(Kind.bar, "GPU hours by GPU", (names.GPU_HOURS,), by=f"{names.RENTAL}.gpu"),
        Panel(
            Kind.bar,
            "Minutes per stage",
            tuple(names.minutes(stage) for stage in Stage if stage not in (Stage.compiling, Stage.ended)),
        ),
        Panel(Kind.bar, "GPU utilization, %", (names.UTILIZATION,), gpu_only=True),
    ),
)


def sections(settings: Sequence[str] = SWEPT) -> tuple[Section, ...]:
    """All sections, in order."""
    return TRAINING, QUALITY, sweeps(settings), MONEY


COLUMNS = (
    f"summary:{names.OBJECTIVE}", f"summary:{scored('test', 'rougeL')}", f"summary:{names.DOLLARS}",
    f"config:{names.RENTAL}.provider", f"config:{names.RENTAL}.gpu", f"config:{names.RENTAL}.price",
    f"config:{names.RENTAL}.region", f"config:{names.RENTAL}.spot", f"config:{names.RENTAL}.restarts",
)  # fmt: skip
"""Pinned columns of the table of runs, which is ordered by the objective: the best first."""

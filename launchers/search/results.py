"""The end of a sweep: its table, best first, `sweep.csv` and `sweep.json` in its folder, and how to run the best job again."""

from __future__ import annotations

import csv
import fnmatch
import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.errors import MendInput
from launchers.search.settings import SweepSettings
from launchers.search.space import plain
from launchers.search.trials import Trial, TrialState

TABLE = "sweep.csv"
RECORD = "sweep.json"
METRICS = "metrics.json"
"""In a job's folder: a flat map of what it measured, where the app writes one."""


@dataclass(frozen=True)
class Result:
    """A trial with what its folder says beside the objective."""

    trial: Trial
    figures: dict[str, float]

    @property
    def value(self) -> float | None:
        return self.trial.value


def read_results(trials: Sequence[Trial], settings: SweepSettings) -> list[Result]:
    """Best first; those without a value last, in the order of their numbers."""
    found = [Result(trial, _figures(Path(trial.folder), settings.figures)) for trial in trials]
    whole = TrialState.finished

    def place(result: Result) -> tuple[bool, bool, float, int]:
        value = result.value
        is_last = value is None
        return (
            is_last,
            result.trial.state is not whole,
            0.0 if value is None else -settings.better * value,
            result.trial.number,
        )

    return sorted(found, key=place)


def measured(folder: Path) -> dict[str, float]:
    """The finite numbers of a job's `metrics.json`; none where it is missing or damaged."""
    try:
        found = json.loads((folder / METRICS).read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(k): float(v) for k, v in found.items() if isinstance(v, int | float) and math.isfinite(v)}


def _figures(folder: Path, names: Sequence[str]) -> dict[str, float]:
    return {k: v for k, v in measured(folder).items() if any(fnmatch.fnmatch(k, name) for name in names)}


def best_of(results: Sequence[Result]) -> Result | None:
    """The best trial that ran to its end, else the best there is."""
    return next((result for result in results if result.value is not None), None)


def columns_of(results: Sequence[Result], keys: Sequence[str], settings: SweepSettings) -> tuple[list[str], list[str]]:
    """Swept keys (the seed among them) and figures, as they stand in the header of the table."""
    seeds = [settings.seed_key] if settings.seeds > 1 else []
    figures = sorted({name for result in results for name in result.figures} - {settings.metric})
    return [*(key.lstrip("+~") for key in keys), *seeds], figures


def rows_of(results: Sequence[Result], keys: Sequence[str], settings: SweepSettings) -> list[dict[str, Any]]:
    """One row per job, with plain values."""
    names, figures = columns_of(results, keys, settings)
    metric = settings.metric or "value"
    rows = []
    for result in results:
        trial = result.trial
        swept = {key.lstrip("+~"): plain(trial.params.get(key)) for key in keys}
        if settings.seeds > 1:
            swept[settings.seed_key] = trial.seed
        rows.append(
            {"job": trial.number}
            | {name: swept.get(name) for name in names}
            | {metric: result.value}
            | {name: result.figures.get(name) for name in figures if name != metric}
            | {
                "state": trial.state.value, "validations": len(trial.reports), "minutes": round(trial.seconds / 60, 3),
                "cost_usd": round(trial.cost, 6), "folder": trial.folder, "note": trial.note,
            }
        )  # fmt: skip
    return rows


def write_files(
    folder: Path,
    results: Sequence[Result],
    keys: Sequence[str],
    settings: SweepSettings,
    importance: dict[str, float] | None,
) -> None:
    """`sweep.csv` for people and scripts, `sweep.json` for what continues the sweep where the ledger is not."""
    rows = rows_of(results, keys, settings)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["job"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    record = {
        "metric": settings.metric, "direction": settings.direction, "sampler": settings.sampler, "pruner": settings.pruner,
        "jobs": rows, "importance": importance, "trials": [result.trial.to_row() for result in results],
    }  # fmt: skip
    for name, content in ((TABLE, text.getvalue()), (RECORD, json.dumps(record, indent=1) + "\n")):
        partial = folder / f".{name}.partial"
        partial.write_text(content)
        partial.replace(folder / name)


def recorded(folder: Path) -> list[Trial]:
    """The trials that `sweep.json` of a folder holds; none where there is no such file.

    Raises:
        MendInput: it is damaged.
    """
    path = folder / RECORD
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())["trials"]
        moved = [Trial.from_row(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MendInput(
            f"{path} is damaged ({type(error).__name__}): remove it to run the sweep's jobs again in new folders, or name another "
            "folder with hydra.sweep.dir=."
        ) from None
    here = str(folder)
    return [
        Trial.from_row(trial.to_row() | {"sweep": here, "folder": str(folder / Path(trial.folder).name)})
        for trial in moved
    ]


def points_table(results: Sequence[Result], keys: Sequence[str], settings: SweepSettings) -> list[dict[str, Any]]:
    """One row per point where each ran with several seeds: mean and sample standard deviation, best first."""
    by_point: dict[int, list[Result]] = {}
    for result in results:
        by_point.setdefault(result.trial.point, []).append(result)
    metric = settings.metric or "value"
    rows = []
    for members in by_point.values():
        values = [r.value for r in members if r.value is not None]
        rows.append(
            {key.lstrip("+~"): plain(members[0].trial.params.get(key)) for key in keys}
            | {
                "mean": statistics.fmean(values) if values else None,
                "deviation": statistics.stdev(values) if len(values) > 1 else None,
                "seeds": len(values), "metric": metric,
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: (row["mean"] is None, -settings.better * (row["mean"] or 0.0)))

"""Run folders as typed values, and the search for them."""

from __future__ import annotations

import csv
import glob
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from summarizer.errors import ConfigError
from summarizer.run import BILL
from summarizer.sweeps import TABLE

Curve = list[tuple[float, float]]
PRUNED = "pruned"
"""In a sweep's table: a job that was stopped before its end, since others promised more."""
MARKS = ("config.yaml", "metrics.json", "status.json")
"""Files by which a folder is taken for a run, whole or broken."""


class Unreadable(Exception):
    """A folder that is no run, or a broken one; the text says why."""


@dataclass(frozen=True)
class Predictions:
    """Rows of one evaluated split, in file order."""

    ids: list[str]
    documents: list[str]
    references: list[str]
    summaries: list[str]
    rouge_l: list[float]
    """F1, 0 to 1."""


@dataclass(frozen=True)
class RunRecord:
    """What one job's folder says.

    Attributes:
        metrics: numbers of metrics.json; `texts` holds its other values.
        curves: metric name -> (optimizer step, value) in step order, from logs/metrics.csv.
        rental: machines and their bill, from rental.json; empty for a job that ran here.
        in_sweep: the job's row in the table of its sweep; empty for a job that is not of one.
        pruned: its sweep stopped it on the way; its figures are those of its last validation.
    """

    folder: Path
    config: dict[str, Any]
    overrides: list[str]
    metrics: dict[str, float]
    texts: dict[str, str]
    status: dict[str, Any]
    provenance: dict[str, Any]
    rental: dict[str, Any]
    curves: dict[str, Curve] = field(repr=False)
    in_sweep: dict[str, Any] = field(default_factory=dict, repr=False)
    pruned: bool = False

    @property
    def label(self) -> str:
        """`<time>/<job>`: short, and unique within one name."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def state(self) -> str:
        return str(self.status.get("state", "unknown"))

    @property
    def minutes(self) -> float | None:
        """Of all its starts where a sweep has counted them, else of the last one."""
        if isinstance(counted := self.in_sweep.get("minutes"), int | float):
            return float(counted)
        seconds = self.status.get("seconds")
        return float(seconds) / 60 if isinstance(seconds, int | float) else None

    @property
    def dollars(self) -> float | None:
        """What the job's machines cost; None where nobody was billed."""
        cost = self.rental.get("cost")
        return float(cost) if isinstance(cost, int | float) else None

    @property
    def dollars_per_1000_summaries(self) -> float | None:
        price, seconds, rows = (
            self.rental.get("price"),
            self.metrics.get("test/generation_seconds"),
            self.metrics.get("test/rows"),
        )
        if not isinstance(price, int | float) or not seconds or not rows:
            return None
        return float(price) / 3600 * seconds / rows * 1000

    @property
    def splits(self) -> list[str]:
        """Evaluated splits, the test split first."""
        found = {key.split("/")[0] for key in self.metrics if key.endswith("/rows")}
        return sorted(found, key=lambda name: (name != "test", name))

    @cached_property
    def predictions(self) -> Predictions | None:
        """Rows of the test split, or of the only split that was evaluated; None where there are none or they are damaged."""
        import pyarrow as pa
        import pyarrow.parquet as parquet

        for name in ("predictions.parquet", "predictions-test.parquet"):
            path = self.folder / name
            if not path.is_file():
                continue
            try:
                table = parquet.read_table(path, columns=["id", "document", "reference", "summary", "rougeL"])
            except (OSError, pa.ArrowException):
                return None
            columns = [table.column(i).to_pylist() for i in range(5)]
            return Predictions(*columns)
        return None


def read_run(folder: Path) -> RunRecord:
    """One job's folder.

    Raises:
        Unreadable: it is no job's folder, was not finished, or its files are damaged.
    """
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
    except FileNotFoundError:
        raise Unreadable("it has no config.yaml, so it is not a job's folder") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise Unreadable(f"its config.yaml cannot be read ({type(error).__name__})") from None
    status = _json(folder / "status.json")
    if not isinstance(config, dict) or "model" not in config or "data" not in config:
        raise Unreadable("its config.yaml is not one of this project")
    measured = _json(folder / "metrics.json")
    curves = read_curves(folder / "logs" / "metrics.csv")
    in_sweep = _row_of_sweep(folder)
    if pruned := not measured and in_sweep.get("state") == PRUNED:
        measured = {key: curve[-1][1] for key, curve in curves.items() if key.startswith("validation/")}
    if not measured:
        state = status.get("state", "unknown")
        raise Unreadable(f"it has no figures in metrics.json (state: {state})")
    overrides: Any = []
    if (folder / "overrides.yaml").is_file():
        try:
            overrides = yaml.safe_load((folder / "overrides.yaml").read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            overrides = []
    numbers = {k: float(v) for k, v in measured.items() if isinstance(v, int | float) and math.isfinite(v)}
    texts = {k: v for k, v in measured.items() if isinstance(v, str)}
    return RunRecord(
        folder, config, [str(o) for o in overrides] if isinstance(overrides, list) else [], numbers, texts, status,
        _json(folder / "provenance.json"), _json(folder / BILL), curves, in_sweep, pruned,
    )  # fmt: skip


def read_curves(path: Path) -> dict[str, Curve]:
    """Metric name -> (step, value). Of two rows of one step the later counts: a resumed job logs lost steps again."""
    found: dict[str, dict[float, float]] = {}
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                try:
                    step = float(row["step"]) + 1  # Lightning counts from 0
                except (KeyError, TypeError, ValueError):
                    continue
                for key, text in row.items():
                    if key in ("step", "epoch", None) or not isinstance(text, str) or not text:
                        continue
                    try:
                        value = float(text)
                    except ValueError:
                        continue
                    if math.isfinite(value):
                        found.setdefault(key, {})[step] = value
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {key: sorted(points.items()) for key, points in found.items()}


def find_runs(patterns: Sequence[str]) -> tuple[list[RunRecord], list[tuple[str, str]]]:
    """Runs below or matched by the patterns, ordered by folder.

    Args:
        patterns: folders or glob patterns (`outputs/**`); a sweep's folder stands for its jobs.

    Returns:
        The runs, and what was left out: (path, reason).

    Raises:
        ConfigError: nothing matches, or nothing that matches is a run with figures.
    """
    runs: dict[Path, RunRecord] = {}
    left_out: dict[str, str] = {}
    for pattern in patterns:
        folders = list(_candidates(pattern))
        if not folders:
            left_out[pattern] = "nothing is there"
        for folder in folders:
            if folder in runs or str(folder) in left_out:
                continue
            try:
                runs[folder] = read_run(folder)
            except Unreadable as error:
                left_out[str(folder)] = str(error)
    if not runs:
        why = "; ".join(f"{path}: {reason}" for path, reason in list(left_out.items())[:3])
        raise ConfigError(
            f"runs={','.join(patterns)}: no finished run is there ({why}); name folders such as outputs/<name>/<time>, or "
            "a pattern such as 'outputs/**'."
        )
    return [runs[folder] for folder in sorted(runs)], sorted(left_out.items())


def _candidates(pattern: str) -> Iterable[Path]:
    """Folders that look like runs: named themselves, or standing anywhere below a named folder."""
    expanded = str(Path(pattern).expanduser())
    matches = [Path(path) for path in glob.glob(expanded, recursive=True)] or [Path(expanded)]
    seen: set[Path] = set()
    for match in matches:
        folder = (match if match.is_dir() else match.parent if match.name in MARKS else match).resolve()
        if folder in seen or not folder.is_dir():
            continue
        seen.add(folder)
        if any((folder / mark).is_file() for mark in MARKS):
            yield folder
            continue
        below = {path.parent for mark in MARKS for path in folder.rglob(mark)}
        for run in sorted(below - seen):
            if run.name not in ("model", "tokenizer"):
                seen.add(run)
                yield run


def _row_of_sweep(folder: Path) -> dict[str, Any]:
    """What the sweep that the folder stands in says of its job."""
    jobs = _json(folder.parent / TABLE).get("jobs")
    rows = jobs if isinstance(jobs, list) else []
    return next((row for row in rows if isinstance(row, dict) and str(row.get("job")) == folder.name), {})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}

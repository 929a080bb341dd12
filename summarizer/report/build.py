"""Pages written to files: of one run, of a sweep, of any set of runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from summarizer.errors import ConfigError
from summarizer.report.comparison_page import Comparison, comparison_page
from summarizer.report.differences import differing
from summarizer.report.page import render
from summarizer.report.records import find_runs, read_run
from summarizer.report.run_page import run_page
from summarizer.run import REPORT, write_atomically


def write_run_report(folder: Path) -> Path:
    """`report.html` of one job's folder.

    Raises:
        Unreadable: the folder is no finished job's.
        OutputError: it cannot be written.
    """
    target = folder / REPORT
    write_atomically(target, render(run_page(read_run(folder))))
    return target


def compared(patterns: Sequence[str], metric: str, maximize: bool) -> Comparison:
    """Runs that have the metric, best first and those that their sweep pruned last; the others are left out by name.

    Raises:
        ConfigError: no run is there, or none has the metric (the ones there are named).
    """
    runs, left_out = find_runs(patterns)
    having = [run for run in runs if metric in run.metrics]
    if not having:
        known = sorted({key for run in runs for key in run.metrics if key.count("/") == 1})
        raise ConfigError(
            f"no run has the metric {metric}; there are {', '.join(known[:20])}: choose one with sweep.metric=."
        )
    left_out += [(str(run.folder), f"it has no {metric}") for run in runs if metric not in run.metrics]
    better = 1.0 if maximize else -1.0
    ordered = sorted(having, key=lambda run: (run.pruned, -better * run.metrics[metric]))
    return Comparison(ordered, metric, maximize, differing(having), left_out)


def write_comparison(comparison: Comparison, target: Path, title: str) -> Path:
    """The page of one run where there is one, else of the comparison.

    Raises:
        OutputError: it cannot be written.
    """
    single = len(comparison.runs) == 1 and not comparison.left_out
    page = run_page(comparison.best) if single else comparison_page(comparison, title)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, render(page))
    return target

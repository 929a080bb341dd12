"""task=report and task=compare: finished runs side by side, as a page and as a table on the terminal."""

from __future__ import annotations

import logging
import re
import statistics
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from summarizer.evaluation.report import print_table
from summarizer.report.axes import figure, number
from summarizer.report.build import compared, write_comparison
from summarizer.report.comparison_page import Comparison, state_words
from summarizer.report.differences import show, value_of, version_notes
from summarizer.report.records import RunRecord
from summarizer.report.significance import compare as compare_pair
from summarizer.report.significance import p_words, resampled_means, same_rows
from summarizer.run import REPORT

log = logging.getLogger(__name__)
SEED = "seed"
KEYS_SHOWN = 4
"""Differing settings in the terminal's table; the page has all of them."""


def patterns_of(runs: str) -> list[str]:
    """Folders and patterns of `runs`, which is one path where a path of that name exists."""
    return [runs] if Path(runs).expanduser().exists() else [part.strip() for part in runs.split(",") if part.strip()]


def comparison_of(config: DictConfig) -> Comparison:
    """The runs that a command names, by the metric it names."""
    return compared(patterns_of(config.runs), str(config.sweep.metric), str(config.sweep.direction) == "maximize")


def report(config: DictConfig) -> Path:
    """Write the page; returns its path.

    Raises:
        ConfigError: no run, or none with the metric.
        OutputError: the page cannot be written.
    """
    c = comparison_of(config)
    first = Path(re.split(r"[*?\[]", patterns_of(config.runs)[0])[0]).expanduser()
    target = Path(config.output).expanduser() if config.output else (first if first.is_dir() else Path()) / REPORT
    if target.is_dir():
        target = target / REPORT
    title = config.report.title or f"{len(c.runs)} runs of {first.name or 'this folder'}"
    written = write_comparison(c, target.resolve(), title)
    name_left_out(c.left_out)
    print(f"Report: {written} ({written.stat().st_size / 1e3:,.0f} kB, {len(c.runs)} runs)")
    if config.report.open and not webbrowser.open(written.as_uri()):
        log.warning("no browser could be started here: open %s yourself.", written)
    return written


def compare(config: DictConfig) -> Comparison:
    """Print the table of runs, best first, and a paired test of the best two.

    Raises:
        ConfigError: no run, or none with the metric.
    """
    c = comparison_of(config)
    show_comparison(c)
    for note in version_notes(c.runs):
        log.warning("these runs come from different versions of %s.", note)
    name_left_out(c.left_out)
    return c


def show_comparison(c: Comparison) -> None:
    """The table on the terminal: what differs, the metric, test figures, minutes, dollars, folder."""
    keys = c.keys[:KEYS_SHOWN]
    others = [key for key in ("test/rouge1", "test/rouge2", "test/rougeL") if key != c.metric]
    state = ["state"] if any(run.pruned for run in c.runs) else []
    header = [*keys, c.metric, *others, *state, "minutes", "$", "folder"]
    rows = []
    for run in c.runs:
        figures = [f"{run.metrics[key]:.2f}" if key in run.metrics else "-" for key in others]
        minutes = "-" if run.minutes is None else f"{run.minutes:.1f}"
        dollars = "-" if run.dollars is None else f"{run.dollars:.2f}"
        rows.append(
            [
                *(show(value_of(run, key)) for key in keys),
                figure(c.value(run)),
                *figures,
                *(state_words(run) for _ in state),
                minutes,
                dollars,
                short(run.folder),
            ]
        )
    print_table(f"{len(c.runs)} runs by {c.metric}, best first", header, rows)
    if len(c.keys) > KEYS_SHOWN:
        print(f"  {len(c.keys) - KEYS_SHOWN} more settings differ: {', '.join(c.keys[KEYS_SHOWN:][:8])}")
    groups = by_setting(c)
    if len(groups) < len(c.whole):
        show_groups(c, groups)
    if 1 < len(groups) < len(c.whole):
        print(f"  {paired_groups(*groups[:2])}")
    elif len(c.whole) > 1:
        print(f"  {paired_words(c)}")


def by_setting(c: Comparison) -> list[list[RunRecord]]:
    """Runs that differ in nothing but their seed stand together; the group with the best mean comes first."""
    keys = [key for key in c.keys if key != SEED]
    groups: dict[str, list[RunRecord]] = {}
    for run in c.whole:
        groups.setdefault(repr([value_of(run, key) for key in keys]), []).append(run)
    better = 1.0 if c.maximize else -1.0
    return sorted(groups.values(), key=lambda group: -better * statistics.fmean(map(c.value, group)))


def show_groups(c: Comparison, groups: Sequence[Sequence[RunRecord]]) -> None:
    """Mean and deviation of each group of seeds."""
    keys = [key for key in c.keys if key != SEED][:KEYS_SHOWN]
    rows = []
    for group in groups:
        values = [c.value(run) for run in group]
        deviation = number(statistics.stdev(values)) if len(values) > 1 else "-"
        swept = [show(value_of(group[0], key)) for key in keys]
        rows.append([*swept, number(statistics.fmean(values)), deviation, str(len(values))])
    print_table(f"Mean {c.metric} of runs that differ in their seed alone", [*keys, "mean", "deviation", "runs"], rows)


def paired_groups(first: Sequence[RunRecord], second: Sequence[RunRecord]) -> str:
    """Whether the best group beats the next one on the same test rows, each row scored by the mean of its group's seeds."""
    scores = same_rows([*first, *second])
    if scores is None:
        return "no paired test: the best two groups were not evaluated on the same rows"
    means = np.stack([scores[:, : len(first)].mean(axis=1), scores[:, len(first) :].mean(axis=1)], axis=1)
    return sentence(means, "group")


def paired_words(c: Comparison) -> str:
    """Whether the best run beats the next one on the same test rows."""
    first, second = c.whole[:2]
    scores = same_rows([first, second])
    if scores is None:
        return "no paired test: the best two runs were not evaluated on the same rows"
    return sentence(scores, "run")


def sentence(scores: np.ndarray, what: str) -> str:
    """The paired bootstrap of two columns of scores in words."""
    found = compare_pair(resampled_means(scores), scores, 0, 1)
    verdict = "differs" if found.differs else "does not differ"
    return (
        f"on the same {found.rows:,} test rows the first {what} {verdict} from the second: {found.difference:+.2f} ROUGE-L "
        f"(95 % interval {found.low:+.2f} to {found.high:+.2f}, {p_words(found.p)})"
    )


def name_left_out(left_out: Sequence[tuple[str, str]], most: int = 10) -> None:
    for path, reason in left_out[:most]:
        log.warning("left out %s: %s.", path, reason)
    if len(left_out) > most:
        log.warning("left out %d more folders; the page names them all.", len(left_out) - most)


def short(folder: Path) -> str:
    """The path from here where that is shorter."""
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)

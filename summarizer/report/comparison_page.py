"""The page of a sweep or of any set of runs: which is best, at what cost, and whether the difference is real."""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from summarizer.report import charts
from summarizer.report.axes import figure, number
from summarizer.report.differences import show, value_of, version_notes
from summarizer.report.marking import marked
from summarizer.report.page import Block, Cell, Code, Figure, Page, Sample, Samples, Section, Table, Text
from summarizer.report.records import RunRecord
from summarizer.report.run_page import cut
from summarizer.report.significance import compare, front, importance, in_words, p_words, resampled_means, same_rows

MATRIX_RUNS = 12
SIDE_BY_SIDE_RUNS = 4
SIDE_BY_SIDE_ROWS = 5
CURVES = 8
NOT_EVALUATED = "No run was evaluated on the test split, so there is no paired comparison: evaluate them with evaluation.splits=[test]."
NOT_THE_SAME_ROWS = "The runs were not evaluated on the same rows, so there is no paired comparison."
SCATTERS = 6


@dataclass(frozen=True)
class Comparison:
    """Runs, best first and pruned ones last, and what they are compared by.

    Attributes:
        metric: key of metrics.json; every run in `runs` has it.
        keys: settings that differ.
    """

    runs: list[RunRecord]
    metric: str
    maximize: bool
    keys: list[str]
    left_out: list[tuple[str, str]]

    def value(self, run: RunRecord) -> float:
        return run.metrics[self.metric]

    @property
    def best(self) -> RunRecord:
        return self.runs[0]

    @property
    def whole(self) -> list[RunRecord]:
        """Those that ran to their end."""
        return [run for run in self.runs if not run.pruned]


def comparison_page(c: Comparison, title: str) -> Page:
    """The page of a comparison."""
    sections = [
        Section("Answer", answer(c)),
        Section("Runs", [table(c), *versions(c), *left_out(c)]),
        Section("Quality against cost", quality_against_cost(c)),
        Section("Settings", settings_blocks(c)),
        Section("Curves", curves(c)),
        Section("Are the differences real?", significance(c)),
        Section("Summaries side by side", side_by_side(c)),
    ]
    return Page(
        title, f"{counted(len(c.runs), 'run')} by {c.metric}", [section for section in sections if section.blocks]
    )


def names(c: Comparison, run: RunRecord) -> str:
    """A run's name in a chart: what differs, in short."""
    parts = [
        f"{key.split('.')[-1] if not key.endswith('.name') else key.split('.')[0]}={show(value_of(run, key))}"
        for key in c.keys[:3]
    ]
    return f"{run.folder.name}: {' '.join(parts)}" if parts else run.label


def answer(c: Comparison) -> list[Block]:
    """The best run, its command line, and the front in words."""
    best = c.best
    blocks: list[Block] = [
        Text(f"Best by {c.metric}: {names(c, best)} with {figure(c.value(best))}." + test_words(best)),
        Code(shlex.join(["python", "-m", "summarizer", *best.overrides])),
    ]
    runs = c.whole
    scores = same_rows(runs)
    if scores is None:
        if len(runs) > 1:
            blocks.append(Text(NOT_THE_SAME_ROWS if any(run.splits for run in runs) else NOT_EVALUATED))
        return blocks
    costs, unit = training_costs(runs)
    quality = [float(np.mean(scores[:, i])) for i in range(len(runs))]
    known = [i for i, cost in enumerate(costs) if cost is not None and cost > 0]
    chosen = [known[i] for i in front([(float(costs[j] or 0), quality[j]) for j in known])]
    means = resampled_means(scores)
    for cheap, costly in itertools.pairwise(chosen):
        ratio = float(costs[costly] or 0) / float(costs[cheap] or 1)
        blocks.append(
            Text(
                in_words(names(c, runs[cheap]), names(c, runs[costly]), ratio, compare(means, scores, costly, cheap))
                + f" (cost: {unit})."
            )
        )
    if len(runs) > 1 and len(chosen) < 2:
        blocks.append(
            Text(
                "No run buys more ROUGE-L on the test rows than the cheapest of the front, "
                f"{names(c, runs[chosen[0]] if chosen else best)} (cost: {unit})."
            )
        )
    return blocks


def counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def test_words(run: RunRecord) -> str:
    m = run.metrics
    if "test/rougeL" not in m:
        return ""
    low, high = m.get("test/rougeL_low"), m.get("test/rougeL_high")
    interval = f" (95 % interval {low:.2f} to {high:.2f})" if low is not None and high is not None else ""
    return f" Its test ROUGE-L is {m['test/rougeL']:.2f}{interval}."


def table(c: Comparison) -> Table:
    """One row per run, best first."""
    header = [*c.keys, c.metric]
    with_test = c.metric != "test/rougeL" and any("test/rougeL" in run.metrics for run in c.runs)
    with_state = any(run.pruned for run in c.runs)
    header += ["test/rougeL"] * with_test + ["state"] * with_state + ["minutes", "$", "folder"]
    short = len({run.folder.parent.parent for run in c.runs}) == 1
    rows = []
    for i, run in enumerate(c.runs):
        cells = [setting_cell(value_of(run, key)) for key in c.keys]
        cells.append(Cell(figure(c.value(run)), c.value(run), strong=i == 0))
        if with_test:
            cells.append(figure_cell(run.metrics.get("test/rougeL"), 2))
        if with_state:
            cells.append(Cell(state_words(run)))
        cells += [
            figure_cell(run.minutes, 1),
            figure_cell(run.dollars, 2),
            Cell(run.label if short else str(run.folder)),
        ]
        rows.append(cells)
    order = "Best first, those that the sweep pruned last" if with_state else "Best first"
    return Table(header, rows, f"{order}; press a head to sort")


def state_words(run: RunRecord) -> str:
    if not run.pruned:
        return run.state
    steps = [curve[-1][0] for key, curve in run.curves.items() if key.startswith("validation/") and curve]
    return f"pruned at step {max(steps):,.0f}" if steps else "pruned"


def versions(c: Comparison) -> list[Block]:
    """Which versions differ, and how many runs have each."""
    notes = version_notes(c.runs)
    if not notes:
        return []
    return [Text(f"These runs come from different versions, which may explain a difference: {'; '.join(notes)}.")]


def setting_cell(value: object) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(show(value), float(value) if is_number else None)  # type: ignore[arg-type]


def figure_cell(value: float | None, digits: int) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:.{digits}f}", value)


def left_out(c: Comparison) -> list[Block]:
    if not c.left_out:
        return []
    rows = [[Cell(path), Cell(reason)] for path, reason in c.left_out]
    return [Table(["left out", "why"], rows, f"{counted(len(rows), 'folder')} left out")]


def training_costs(runs: Sequence[RunRecord]) -> tuple[list[float | None], str]:
    """Dollars where any run was billed, else minutes of training."""
    if any(run.dollars for run in runs):
        return [run.dollars for run in runs], "training dollars"
    return [
        run.metrics["train/seconds"] / 60 if "train/seconds" in run.metrics else None for run in runs
    ], "training minutes"


def quality_against_cost(c: Comparison) -> list[Block]:
    """ROUGE-L with its interval against what the training and 1,000 summaries cost, with the front drawn."""
    blocks: list[Block] = []
    costs, unit = training_costs(c.runs)
    per_1000 = [run.dollars_per_1000_summaries for run in c.runs]
    summary_unit = "dollars per 1,000 summaries"
    if not any(per_1000):
        summary_unit = "generation seconds per 1,000 summaries"
        per_1000 = [
            1000 * run.metrics["test/generation_seconds"] / run.metrics["test/rows"]
            if run.metrics.get("test/generation_seconds") and run.metrics.get("test/rows") else None
            for run in c.runs
        ]  # fmt: skip
    for values, label in ((costs, unit), (per_1000, summary_unit)):
        known = [(run, v) for run, v in zip(c.runs, values, strict=True) if v and "test/rougeL" in run.metrics]
        if len(known) < 2:
            continue
        on_front = set(front([(v, run.metrics["test/rougeL"]) for run, v in known]))
        dots = [
            charts.Dot(
                names(c, run),
                v,
                run.metrics["test/rougeL"],
                run.metrics.get("test/rougeL_low"),
                run.metrics.get("test/rougeL_high"),
                i in on_front,
            )
            for i, (run, v) in enumerate(known)
        ]
        data = Table(
            ["run", label, "test/rougeL"],
            [[Cell(d.label), Cell(number(d.x), d.x), Cell(f"{d.y:.2f}", d.y)] for d in dots],
        )
        blocks.append(
            Figure(
                charts.scatter(f"Test ROUGE-L against {label}", dots, label, "test ROUGE-L"),
                f"Test ROUGE-L with its 95 % interval against {label}; runs on the dotted front are not beaten in both.",
                data=data,
            )
        )
    return blocks


def settings_blocks(c: Comparison) -> list[Block]:
    """Parallel coordinates for several settings, a scatter for each numeric one, importance for ten runs or more."""
    blocks: list[Block] = []
    if len(c.runs) < 2 or not c.keys:
        return blocks
    columns = {key: [value_of(run, key) for run in c.runs] for key in c.keys}
    objective = [c.value(run) for run in c.runs]
    sign = 1.0 if c.maximize else -1.0
    if len(c.keys) > 1:
        axes = c.keys[:6]
        rows = [
            (
                names(c, run),
                [
                    *(columns[key][i] if is_number(columns[key][i]) else show(columns[key][i]) for key in axes),
                    objective[i],
                ],
            )
            for i, run in enumerate(c.runs)
        ]
        blocks.append(
            Figure(
                charts.parallel("Settings and result", [*axes, c.metric], rows),
                f"Each line is a run; the best fifth by {c.metric} is colored.",
            )
        )
    for key in [key for key in c.keys if all(is_number(v) for v in columns[key])][:SCATTERS]:
        best = max(range(len(objective)), key=lambda i: sign * objective[i])
        dots = [
            charts.Dot(names(c, run), float(columns[key][i]), objective[i], marked=i == best)
            for i, run in enumerate(c.runs)
        ]
        blocks.append(
            Figure(
                charts.scatter(f"{c.metric} by {key}", dots, key, c.metric),
                f"{c.metric} by {key}; the best run is colored.",
            )
        )
    shares = importance(list(zip(*columns.values(), strict=True)), objective)
    if shares:
        ranked = sorted(zip(c.keys, shares, strict=True), key=lambda pair: -pair[1])
        shown = [charts.Bar(key, 100 * share, strong=i == 0) for i, (key, share) in enumerate(ranked)]
        blocks.append(
            Figure(
                charts.bars("Importance", shown, "share of the explained variance, %"),
                "How much of the result each setting explains alone (interactions are not separated).",
            )
        )
    return blocks


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def curves(c: Comparison) -> list[Block]:
    """Validation curves of the best runs, one chart per metric."""
    blocks: list[Block] = []
    for metric, unit in (("validation/rougeL", "ROUGE-L"), ("validation/loss", "loss")):
        series = [
            charts.Series(names(c, run), run.curves[metric])
            for run in c.runs[:CURVES]
            if len(run.curves.get(metric, [])) > 1
        ]
        if series:
            some = f" of the best {len(series)} runs" if len(c.runs) > len(series) else ""
            blocks.append(
                Figure(
                    charts.line_chart(metric, series, "optimizer step", unit),
                    f"{metric} by optimizer step{some}.",
                    [s.name for s in series],
                )
            )
    return blocks


def significance(c: Comparison) -> list[Block]:
    """Paired differences between the best runs, on rows that all of them evaluated."""
    runs = [run for run in c.runs if run.predictions is not None][:MATRIX_RUNS]
    scores = same_rows(runs) if len(runs) > 1 else None
    if scores is None:
        return []
    means = resampled_means(scores)
    rows = []
    for i, run in enumerate(runs):
        cells = [Cell(names(c, run))]
        for j in range(len(runs)):
            if i == j:
                cells.append(Cell("-"))
                continue
            found = compare(means, scores, i, j)
            cells.append(Cell(f"{found.difference:+.2f} ({p_words(found.p)})", found.difference, strong=found.differs))
        rows.append(cells)
    return [
        Text(
            f"Difference in test ROUGE-L, row minus column, on the same {len(scores):,} rows; bold where the paired "
            "bootstrap finds p < 0.05."
        ),
        Table(["run", *(run.folder.name for run in runs)], rows),
    ]


def side_by_side(c: Comparison) -> list[Block]:
    """What the best runs wrote for the same documents: those on which they differ most."""
    shown = [(run, run.predictions) for run in c.runs if run.predictions is not None][:SIDE_BY_SIDE_RUNS]
    tables = [
        (run, p, {(p.ids[i], p.references[i]): i for i in range(len(p.ids))}) for run, p in shown if p is not None
    ]
    if not tables:
        return []
    _, first, rows = tables[0]
    common = [key for key in rows if all(key in index for _, _, index in tables)]
    spread = {key: np.ptp([p.rouge_l[index[key]] for _, p, index in tables]) for key in common}
    samples = []
    for key in sorted(common, key=lambda k: -spread[k])[:SIDE_BY_SIDE_ROWS]:
        document = first.documents[rows[key]]
        written = [
            (
                names(c, run),
                f"ROUGE-L {100 * p.rouge_l[index[key]]:.1f}",
                list(marked(p.summaries[index[key]], document)),
            )
            for run, p, index in tables
        ]
        samples.append(Sample(key[0], cut(document), key[1], written))
    return [Samples(samples, "Documents on which the best runs differ most")] if samples else []

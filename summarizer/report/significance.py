"""Paired comparisons of runs on the same rows, the cost-quality front, and how much each setting matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from summarizer.report.records import RunRecord

SAMPLES = 1000
IMPORTANCE_TRIALS = 10
"""Below this many runs an importance would be noise."""


@dataclass(frozen=True)
class Compared:
    """Two runs on the rows that both evaluated.

    Attributes:
        difference: mean ROUGE-L of the first minus that of the second, x 100.
        low, high: paired 95 % bootstrap interval of it.
        p: two-sided bootstrap p-value.
    """

    difference: float
    low: float
    high: float
    p: float
    rows: int

    @property
    def differs(self) -> bool:
        return self.p < 0.05


def same_rows(runs: Sequence[RunRecord]) -> np.ndarray | None:
    """ROUGE-L [rows, runs], 0 to 1, on rows that all runs evaluated: equal id, document and reference. None for none."""
    tables = []
    for run in runs:
        if run.predictions is None:
            return None
        p = run.predictions
        keys = zip(p.ids, p.documents, p.references, strict=True)
        tables.append(dict(zip(keys, p.rouge_l, strict=True)))
    if not tables:
        return None
    common = [key for key in tables[0] if all(key in table for table in tables[1:])]
    if not common:
        return None
    return np.array([[table[key] for table in tables] for key in common], dtype=np.float64)


def resampled_means(scores: np.ndarray, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Means of resampled rows [samples, runs]; all runs share the resamples, so that differences are paired.

    Source: Koehn 2004, aclanthology.org/W04-3250.
    """
    rows = len(scores)
    weights = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=samples)
    return weights @ scores / rows


def compare(means: np.ndarray, scores: np.ndarray, first: int, second: int) -> Compared:
    """One pair out of `resampled_means`."""
    differences = means[:, first] - means[:, second]
    low, high = np.quantile(differences, [0.025, 0.975])
    tail = min(float(np.mean(differences <= 0)), float(np.mean(differences >= 0)))
    observed = float(np.mean(scores[:, first] - scores[:, second]))
    return Compared(100 * observed, 100 * float(low), 100 * float(high), min(1.0, 2 * tail), len(scores))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other beats in both: low x (cost), high y (quality); by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    kept: list[int] = []
    for i in order:
        if not kept or points[i][1] > points[kept[-1]][1]:
            kept.append(i)
    return kept


def p_words(p: float) -> str:
    """`p = 0.04`; what no sample of 1,000 found is below 0.001, and is never 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def in_words(cheap: str, dear: str, cost_ratio: float, compared: Compared) -> str:
    """The verdict between two neighbors of the front: `b costs 4.0x a and is not better (p = 0.40)`."""
    better = compared.differs and compared.difference > 0
    verdict = f"is better by {compared.difference:.2f} ROUGE-L" if better else "is not better"
    return f"{dear} costs {cost_ratio:.1f}x as much as {cheap} and {verdict} ({p_words(compared.p)}, {compared.rows:,} rows)"


def importance(values: Sequence[Sequence[object]], objective: Sequence[float]) -> list[float] | None:
    """Share of the objective's variance that each setting explains alone, summing to 1; None for too few runs.

    Categories are compared by the means of their runs (eta squared); numbers by ranks in up to four bins, so that a
    logarithmic range needs no transformation. Interactions are not separated: a figure to look at, not a proof.
    """
    if len(objective) < IMPORTANCE_TRIALS:
        return None
    y = np.asarray(objective, dtype=np.float64)
    total = float(((y - y.mean()) ** 2).sum())
    if total == 0:
        return None
    shares = []
    for column in zip(*values, strict=True):
        groups = _groups(column)
        between = sum(len(g) * (y[g].mean() - y.mean()) ** 2 for g in groups)
        # chance alone explains (groups - 1) / (runs - 1): taken off, as in adjusted R squared
        share = float(between) / total
        chance = (len(groups) - 1) / max(1, len(y) - 1)
        shares.append(max(0.0, (share - chance) / (1 - chance)) if chance < 1 else 0.0)
    whole = sum(shares)
    return [share / whole for share in shares] if whole else [0.0] * len(shares)


def _groups(column: Sequence[object]) -> list[np.ndarray]:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in column)
    names = sorted({repr(v) for v in column})
    if numbers and len(names) > 4:
        ranks = np.argsort(np.argsort(np.array(column, dtype=np.float64), kind="stable"), kind="stable")
        bins = ranks * 4 // len(column)
        return [np.flatnonzero(bins == b) for b in range(4) if (bins == b).any()]
    return [np.array([i for i, v in enumerate(column) if repr(v) == name]) for name in names]

"""Intervals of a mean, and what can be said of a summary without a reference."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

WORD = re.compile(r"[a-z0-9]+")
CELLS = 1 << 22  # resampled values held at once: 32 MiB


def bootstrap_interval(
    values: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean, by resampling rows (Efron & Tibshirani 1993, chapter 13; for texts: Koehn 2004,
    aclanthology.org/W04-3250).

    Args:
        values: [rows], one score a row.

    Returns:
        Lower and upper bound; both are nan for no rows.
    """
    values = np.asarray(values, dtype=np.float64)
    if not len(values):
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    at_once = max(1, CELLS // len(values))
    means = [
        values[random.integers(0, len(values), (min(at_once, samples - done), len(values)))].mean(axis=1)
        for done in range(0, samples, at_once)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(
    values: np.ndarray, baseline: np.ndarray, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of the mean difference on the same rows (Koehn 2004): above 0 means better than the baseline."""
    return bootstrap_interval(np.asarray(values) - np.asarray(baseline), samples, seed)


def words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def text_statistics(summaries: Sequence[str], documents: Sequence[str]) -> dict[str, float]:
    """Means over the rows that have what is counted.

    Returns:
        summary_words: words of a summary; novel_1gram to novel_4gram: percent of its n-grams that stand nowhere in its
        document; repetition: percent of its bigrams that stand in it before; empty: number of summaries without a word.
    """
    novel: dict[int, list[float]] = {n: [] for n in range(1, 5)}
    lengths: list[int] = []
    repetition: list[float] = []
    for summary, document in zip(summaries, documents, strict=True):
        said, source = words(summary), words(document)
        lengths.append(len(said))
        for n in novel:
            grams = ngrams(said, n)
            if grams:
                known = set(ngrams(source, n))
                novel[n].append(sum(gram not in known for gram in grams) / len(grams))
        pairs = ngrams(said, 2)
        if pairs:
            repetition.append(1 - len(set(pairs)) / len(pairs))

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values)) if values else 0.0

    return {
        "summary_words": mean(lengths),
        **{f"novel_{n}gram": 100 * mean(values) for n, values in novel.items()},
        "repetition": 100 * mean(repetition),
        "empty": float(sum(length == 0 for length in lengths)),
    }

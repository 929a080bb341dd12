"""Intervals of a mean, and what can be said of a summary without a reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from summarizer.evaluation.words import PUBLISHED, plain_words

NOVEL = (1, 2, 3, 4)
STATISTICS = ("summary_words", *(f"novel_{n}gram" for n in NOVEL), "repetition")
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


def ngrams(tokens: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def row_statistics(summary: str, document: str, tokenizer: str = PUBLISHED) -> tuple[float, ...]:
    """Of one row what `STATISTICS` names; nan where the summary has none of what is counted."""
    said, source = map(plain_words(tokenizer), (summary, document))
    novel = [novel_share(said, source, n) for n in NOVEL]
    pairs = ngrams(said, 2)
    return len(said), *novel, 1 - len(set(pairs)) / len(pairs) if pairs else math.nan


def novel_share(said: Sequence[str], source: Sequence[str], n: int) -> float:
    """Share of the n-grams that the source does not have; nan where there are none."""
    grams = ngrams(said, n)
    known = set(ngrams(source, n)) if grams else set()
    return sum(gram not in known for gram in grams) / len(grams) if grams else math.nan


def length_and_novelty(
    summaries: Sequence[str], documents: Sequence[str], tokenizer: str = PUBLISHED
) -> tuple[float, float]:
    """The mean words of a summary, and the percent of its bigrams that its document does not have: what a validation can
    afford of `mean_statistics`."""
    words = plain_words(tokenizer)
    said = [words(summary) for summary in summaries]
    novel = [novel_share(mine, words(document), 2) for mine, document in zip(said, documents, strict=True)]
    return float(np.mean([len(mine) for mine in said])), 100 * nanmean(np.array(novel))


def mean_statistics(rows: np.ndarray) -> dict[str, float]:
    """Means over the rows that have what is counted.

    Args:
        rows: [rows, statistics], each as `row_statistics` gives it.

    Returns:
        summary_words: words of a summary; novel_1gram to novel_4gram: percent of its n-grams that stand nowhere in its
        document; repetition: percent of its bigrams that stand in it before; empty: number of summaries without a word.
    """
    counted = rows.reshape(-1, len(STATISTICS)).T
    means = {name: nanmean(values) for name, values in zip(STATISTICS, counted, strict=True)}
    lengths = means.pop("summary_words")
    return {
        "summary_words": lengths,
        **{name: 100 * value for name, value in means.items()},
        "empty": float((counted[0] == 0).sum()),
    }


def nanmean(values: np.ndarray) -> float:
    there = values[~np.isnan(values)]
    return float(np.mean(there)) if len(there) else 0.0


def text_statistics(summaries: Sequence[str], documents: Sequence[str]) -> dict[str, float]:
    """`mean_statistics` of these texts."""
    rows = [row_statistics(summary, document) for summary, document in zip(summaries, documents, strict=True)]
    return mean_statistics(np.array(rows, dtype=np.float64))

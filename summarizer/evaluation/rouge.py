"""ROUGE (Lin 2004, aclanthology.org/W04-1013) per row, by the `rouge_score` package, with stemming."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache

import numpy as np
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenize import tokenize
from rouge_score.tokenizers import Tokenizer

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
ROWS_A_WORKER = 5000
"""Below this a further process costs more to start than it saves."""


class CachedStemmer:
    def __init__(self) -> None:
        self.stem = lru_cache(maxsize=1 << 18)(PorterStemmer().stem)


class CachedTokenizer(Tokenizer):  # type: ignore[misc]
    """The package's own tokenizer; each word is stemmed once, and each text split once."""

    def __init__(self) -> None:
        stemmer = CachedStemmer()
        self._tokenize = lru_cache(maxsize=256)(lambda text: tokenize(text, stemmer))

    def tokenize(self, text: str) -> list[str]:
        words: list[str] = self._tokenize(text)
        return words


@lru_cache(maxsize=1)
def scorer() -> RougeScorer:
    return RougeScorer(list(ROUGE), tokenizer=CachedTokenizer())


def score_row(prediction: str, reference: str) -> tuple[float, ...]:
    """F1 of each measure in `ROUGE`, 0 to 1."""
    scores = scorer().score(reference, prediction)
    return tuple(scores[key].fmeasure for key in ROUGE)


def score_rows(
    predictions: Sequence[str], references: Sequence[str], workers: int | None = None
) -> dict[str, np.ndarray]:
    """F1 of every row.

    Args:
        workers: processes; None takes one for every `ROWS_A_WORKER` rows, up to the machine's cores.

    Returns:
        For each measure in `ROUGE` a float64 array [rows] of values from 0 to 1.
    """
    assert len(predictions) == len(references), "one prediction for each reference"
    if workers is None:
        workers = min(os.cpu_count() or 1, len(predictions) // ROWS_A_WORKER)
    if workers > 1 and not multiprocessing.current_process().daemon:
        # spawned: a fork of a process in which torch runs threads may never come back
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows = list(pool.map(score_row, predictions, references, chunksize=500))
    else:
        rows = [score_row(p, r) for p, r in zip(predictions, references, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(ROUGE))
    return {key: table[:, i] for i, key in enumerate(ROUGE)}


def best_of(candidates: Sequence[str], reference: str) -> str:
    """The candidate with the highest ROUGE-1 + ROUGE-2, the first of equals."""
    scores = [sum(score_row(text, reference)[:2]) for text in candidates]
    return candidates[int(np.argmax(scores))]

"""ROUGE (Lin 2004, aclanthology.org/W04-1013) per row: the figures of the `rouge_score` package, sooner.

The package splits and stems a text for each of its scores and fills its tables cell by cell: 28 ms for the best sentence of one
news article. Here each text is split and counted once. Tests hold every score to the package's, to the last digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from summarizer.evaluation.longest_common import common_length, union_of_positions
from summarizer.evaluation.words import PUBLISHED, Split, counted_words

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
REMEMBERED_TEXTS = 256  # of one row its reference is scored against every rule, its beams against each other


class CountedText:
    """A text as ROUGE sees it: each part is made when a score first asks for it."""

    def __init__(self, text: str, split: Split) -> None:
        self.text, self.split = text, split

    @cached_property
    def words(self) -> list[str]:
        return self.split(self.text)

    @cached_property
    def lines(self) -> list[list[str]]:
        """Words of each line that is not empty: ROUGE-Lsum's sentences."""
        return [self.split(line) for line in self.text.split("\n") if line]

    @cached_property
    def unigrams(self) -> Counter[str]:
        return Counter(self.words)

    @cached_property
    def bigrams(self) -> Counter[tuple[str, str]]:
        return Counter(pairwise(self.words))


def f1(common: int, predicted: int, referred: int) -> float:
    """F1 of `common` things among so many predicted and so many of the reference; rounded as the package rounds it."""
    precision, recall = common / max(predicted, 1), common / max(referred, 1)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def overlap(predicted: Iterable[Hashable], reference: Counter[Any]) -> int:
    """How many of the predicted n-grams the reference has, each at most as often as it stands there."""
    counts = Counter(gram for gram in predicted if gram in reference)
    return sum(min(count, reference[gram]) for gram, count in counts.items())


class Rouge:
    """ROUGE of texts that are split into words in one way."""

    def __init__(self, split: Split) -> None:
        self.text: Callable[[str], CountedText] = lru_cache(maxsize=REMEMBERED_TEXTS)(
            lambda text: CountedText(text, split)
        )
        self.split = split

    def scores(self, prediction: str, reference: str) -> tuple[float, float, float, float]:
        """F1 of each measure in `ROUGE`, 0 to 1."""
        one, other = self.text(prediction), self.text(reference)
        return (*self.of_ngrams(one.words, other), *self.of_sequences(one, other))

    @staticmethod
    def of_ngrams(words: list[str], reference: CountedText) -> tuple[float, float]:
        """ROUGE-1 and ROUGE-2; only what the reference has is counted."""
        pairs = max(0, len(words) - 1)
        unigrams = overlap(words, reference.unigrams)
        bigrams = overlap(pairwise(words), reference.bigrams) if unigrams > 1 else 0
        size = len(reference.words)
        return f1(unigrams, len(words), size), f1(bigrams, pairs, max(0, size - 1))

    @staticmethod
    def of_sequences(prediction: CountedText, reference: CountedText) -> tuple[float, float]:
        """ROUGE-L and ROUGE-Lsum, which are one where both texts are of one line."""
        whole = f1(common_length(prediction.words, reference.words), len(prediction.words), len(reference.words))
        if "\n" not in prediction.text and "\n" not in reference.text:
            return whole, whole
        said, wanted = (Counter(word for line in text.lines for word in line) for text in (prediction, reference))
        left = said & wanted  # a word counts once for each time that both texts have it
        hits = 0
        for line in reference.lines:
            for position in union_of_positions(line, prediction.lines):
                word = line[position]
                if left[word] > 0:
                    left[word] -= 1
                    hits += 1
        return whole, f1(hits, said.total(), wanted.total())

    def best_of(self, candidates: Sequence[str], reference: str) -> str:
        """The candidate with the highest ROUGE-1 + ROUGE-2, the first of equals."""
        target = self.text(reference)
        scores = [sum(self.of_ngrams(self.split(text), target)) for text in candidates]
        return candidates[int(np.argmax(scores))]


@lru_cache(maxsize=2)
def rouge(tokenizer: str = PUBLISHED) -> Rouge:
    """ROUGE over the words of a tokenizer of `words`."""
    return Rouge(counted_words(tokenizer))


def score_row(prediction: str, reference: str) -> tuple[float, ...]:
    """F1 of each measure in `ROUGE`, 0 to 1."""
    return rouge().scores(prediction, reference)


def score_rows(
    predictions: Sequence[str], references: Sequence[str], tokenizer: str = PUBLISHED
) -> dict[str, np.ndarray]:
    """F1 of every row.

    Returns:
        For each measure in `ROUGE` a float64 array [rows] of values from 0 to 1.
    """
    rows = [rouge(tokenizer).scores(p, r) for p, r in zip(predictions, references, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(ROUGE))
    return {key: table[:, i] for i, key in enumerate(ROUGE)}

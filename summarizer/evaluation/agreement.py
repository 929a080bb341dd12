"""ROUGE-1 + 2 + L of every text of a few against every other, all pairs in one go: the sums of `rouge.Rouge.scores`, to the last digit.

A summary's 16 beams have 120 pairs, and a validation some hundred summaries. Counts become rows of an array; the tables of longest
common subsequences are filled side by side, each row a number of 64 bits (see `longest_common`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise

import numpy as np

from summarizer.evaluation.longest_common import common_length

BITS = 64
"""Words of a text, at most, whose row of the table is one number."""


def agreement(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """[n, n] sums of ROUGE-1, 2 and L, each 0 to 1, between the words of each two texts."""
    lengths = np.array([len(words) for words in texts])
    pairs = np.maximum(lengths - 1, 0)
    total = f1(shared([list(words) for words in texts]), lengths)
    total += f1(shared([list(pairwise(words)) for words in texts]), pairs)
    total += f1(common(texts), lengths)
    return total


def f1(both: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """`rouge.f1` of [n, n] common things of texts that have so many, by the same operations."""
    recall = both / np.maximum(sizes, 1)
    precision = recall.T
    either = precision + recall
    return 2 * precision * recall / np.where(either > 0, either, 1.0)


def shared(texts: Sequence[Sequence[Hashable]]) -> np.ndarray:
    """[n, n]: things that each two texts have in common, as often as both have them."""
    columns: dict[Hashable, int] = {}  # of a thing, its second time is another one
    places = []
    for i, things in enumerate(texts):
        times: dict[Hashable, int] = {}
        for thing in things:
            times[thing] = time = times.get(thing, 0) + 1
            places.append((i, columns.setdefault((thing, time), len(columns))))
    has = np.zeros((len(texts), len(columns)), dtype=np.int64)
    if places:
        has[tuple(zip(*places, strict=True))] = 1
    return has @ has.T


def common(texts: Sequence[Sequence[str]]) -> np.ndarray:
    """[n, n]: lengths of the longest common subsequences."""
    count, longest = len(texts), max(map(len, texts))
    if longest > BITS:
        return np.array([[common_length(one, other) for other in texts] for one in texts])
    numbers: dict[str, int] = {}
    words = np.full((longest, count), -1)
    for i, text in enumerate(texts):
        words[: len(text), i] = [numbers.setdefault(word, len(numbers)) for word in text]
    places = np.zeros((len(numbers) + 1, count), dtype=np.uint64)  # of each word in each text; the last word is none
    for j, of_texts in enumerate(words):
        places[of_texts, np.arange(count)] |= np.uint64(1 << j)
    places[-1] = 0
    lengths = [len(text) for text in texts]
    everywhere = np.array([(1 << length) - 1 for length in lengths], dtype=np.uint64)
    rows = np.tile(everywhere, (count, 1))
    for of_texts in words:  # the next word of each text, in the tables against all others
        both = rows & places[of_texts]
        rows = ((rows + both) | (rows - both)) & everywhere  # a carry out of 64 bits is one out of the text
    return np.array(lengths) - np.bitwise_count(rows).astype(np.int64)

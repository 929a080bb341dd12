"""Longest common subsequences of words, a whole row of the table in one operation on a long integer.

By hand, because `rouge_score` fills its table cell by cell in Python, and libraries with a fast one give its length, not which
words ROUGE-Lsum counts. Bits as in Hyyro 2004 ("Bit-parallel LCS-length computation revisited"): bit j of row i is 0 where the
table's cell (i, j + 1) is one more than its left neighbor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def _places(words: Sequence[str]) -> dict[str, int]:
    """For each word the bits of its positions."""
    places: dict[str, int] = {}
    for j, word in enumerate(words):
        places[word] = places.get(word, 0) | 1 << j
    return places


def _next_row(row: int, matches: int, everywhere: int) -> int:
    both = row & matches
    return ((row + both) | (row - both)) & everywhere


def common_length(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence; words that only one of the two has cost nothing."""
    shared = set(one) & set(other)
    short, long = sorted(
        ([word for word in one if word in shared], [word for word in other if word in shared]), key=len
    )
    everywhere = row = (1 << len(long)) - 1
    places = _places(long)
    for word in short:
        row = _next_row(row, places[word], everywhere)
    return len(long) - row.bit_count()


def common_positions(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """Positions in `reference` of the longest common subsequence that `rouge_score` reads out of its table, the last first."""
    everywhere = row = (1 << len(candidate)) - 1
    places = _places(candidate)
    rows = [row]
    for word in reference:
        row = _next_row(row, places.get(word, 0), everywhere)
        rows.append(row)

    def length(i: int, j: int) -> int:
        return j - (rows[i] & ((1 << j) - 1)).bit_count()

    found = []
    i, j = len(reference), len(candidate)
    while i > 0 and j > 0:
        if reference[i - 1] == candidate[j - 1]:
            found.append(i - 1)
            i, j = i - 1, j - 1
        elif length(i, j - 1) > length(i - 1, j):
            j -= 1
        else:
            i -= 1
    return found


def union_of_positions(reference: Sequence[str], candidates: Iterable[Sequence[str]]) -> list[int]:
    """Positions in `reference` that the longest common subsequence with any of the candidates covers, in order."""
    return sorted({position for candidate in candidates for position in common_positions(reference, candidate)})

"""How much two texts share: words, shingles and an index of texts that have some in common."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Set

WORD = re.compile(r"[a-z0-9]+")
SKETCH = 24  # smallest shingles by which a text is found again
MOST_HOLDERS = 200  # of one shingle; boilerplate that more texts share finds nothing


def words(text: str) -> list[str]:
    """Runs of ASCII letters and digits, in lower case."""
    return WORD.findall(text.lower())


def contains_verbatim(document: str, summary: str) -> bool:
    """Whether the summary stands word for word in the document."""
    return f" {' '.join(words(summary))} " in f" {' '.join(words(document))} "


def jaccard(a: Set[object], b: Set[object]) -> float:
    """Size of the intersection over that of the union."""
    return len(a & b) / len(a | b)


def shingles(document: str) -> set[bytes]:
    """64-bit hashes of the document's word 5-grams (Broder 1997, "On the resemblance and containment of documents")."""
    tokens = words(document)
    return {
        hashlib.blake2b(" ".join(tokens[i : i + 5]).encode(), digest_size=8).digest()
        for i in range(max(1, len(tokens) - 4))
    }


def containment(a: Set[object], b: Set[object]) -> float:
    """Share of the smaller set that stands in the other."""
    return len(a & b) / min(len(a), len(b))


class SketchIndex:
    """Texts by name, found again by any of their smallest shingles."""

    def __init__(self) -> None:
        self._shingles: dict[str, set[bytes]] = {}
        self._holders: dict[bytes, list[str]] = defaultdict(list)

    def add(self, name: str, own: set[bytes]) -> None:
        self._shingles[name] = own
        for shingle in sorted(own)[:SKETCH]:
            if len(self._holders[shingle]) < MOST_HOLDERS:
                self._holders[shingle].append(name)

    def sharing(self, own: set[bytes]) -> Iterator[tuple[str, set[bytes]]]:
        """Names, in order, and shingles of the texts that share one of the smallest shingles of `own`."""
        sketch = sorted(own)[:SKETCH]
        for name in sorted({holder for shingle in sketch for holder in self._holders.get(shingle, ())}):
            yield name, self._shingles[name]

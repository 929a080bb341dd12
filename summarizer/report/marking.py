"""Words of a summary, marked as copied from the document or new."""

from __future__ import annotations

import re
from collections.abc import Iterator

WORD = re.compile(r"\w+(?:['’]\w+)?|\s+|[^\w\s]+")


def marked(summary: str, document: str) -> Iterator[tuple[str, bool]]:
    """Pieces of `summary` in order, each with whether it is a word that the document does not hold (case ignored)."""
    known = {word.casefold() for word in WORD.findall(document)}
    for piece in WORD.findall(summary):
        is_word = piece[0].isalnum()
        yield piece, is_word and piece.casefold() not in known

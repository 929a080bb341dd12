"""Which docstrings become rows, and in which split: whole packages go into one split, and no text into two.

Nothing is drawn at random: every choice is a hash of a name, so that the same packages give the same rows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from summarizer.data.docstrings.installed import Docstring
from summarizer.data.docstrings.text import looks_like_code, split_docstring
from summarizer.data.overlap import SketchIndex, contains_verbatim, containment, jaccard, shingles, words

SALT = "docstrings-1"
HELD_OUT_SHARE = 0.06  # of all rows, for validation and for test each
LARGEST_HELD_OUT_PACKAGE = 0.02  # share of all rows; larger packages train, or one author's style would be the test
MOST_ROWS_OF_A_PACKAGE = 1500
MOST_ROWS_OF_A_SUMMARY = 3

# Summaries that tell of the code's history or of another place, not of what the body says.
SAYS_NOTHING = re.compile(
    r"deprecat|^(see|alias|same as|like|wrapper (around|for)|internal|private|helper|mixin|base class|overrid\w+|inherit\w+"
    r"|auto-?generated|todo|fixme|copyright|licensed?|author|version|note|warning|example|tests?)\b",
    re.I,
)


@dataclass(frozen=True)
class Row:
    """One pair and the distribution it comes from."""

    id: str
    document: str
    summary: str
    source: str


def select(docstrings: Iterable[Docstring]) -> tuple[dict[str, list[Row]], Counter[str]]:
    """The rows of every split, and how many were dropped by which rule."""
    counts: Counter[str] = Counter()
    usable = []
    for docstring in docstrings:
        counts["docstrings"] += 1
        row, reason = as_row(docstring)
        if row:
            usable.append(row)
        else:
            counts["dropped: " + reason] += 1
    rows = _without_repetition(usable, counts)
    splits = assign_splits(rows)
    for split, members in splits.items():
        counts["split " + split] = len(members)
    return splits, counts


def as_row(docstring: Docstring) -> tuple[Row | None, str]:
    """A docstring's row, or the rule that drops it."""
    pair = split_docstring(docstring.text)
    if pair is None:
        return None, "no summary line with a description after it"
    summary, document = pair
    summary_words, document_words = len(words(summary)), len(words(document))
    if not 3 <= summary_words <= 16:
        return None, "summary under 3 or over 16 words"
    if not 15 <= document_words <= 400:
        return None, "document under 15 or over 400 words"
    if SAYS_NOTHING.search(summary) or looks_like_code(summary) or looks_like_code(document):
        return None, "summary of nothing, or code"
    if sum(map(str.isascii, document)) < 0.97 * len(document):
        return None, "not English"
    if contains_verbatim(document, summary):
        return None, "summary stands verbatim in the document"
    shared = set(words(summary)) & set(words(document))
    if len(shared) < 2:
        return None, "summary shares fewer than two words with the document"
    return Row(f"{docstring.package}/{docstring.name}", document, summary, docstring.package), ""


def hashed(purpose: str, name: str) -> int:
    """A number of 64 bits that only the name decides."""
    return int.from_bytes(hashlib.sha256(f"{SALT}\x1f{purpose}\x1f{name}".encode()).digest()[:8], "big")


def _without_repetition(rows: list[Row], counts: Counter[str]) -> list[Row]:
    """Rows that say what no earlier one says, in hashed order, at most so many of one package and of one summary."""
    kept: list[Row] = []
    summaries: dict[str, str] = {}
    of_package: Counter[str] = Counter()
    of_summary: Counter[str] = Counter()
    index = SketchIndex()
    for row in sorted(rows, key=lambda r: (hashed("order", r.id), r.id)):
        summary = " ".join(words(row.summary))
        if row.id in summaries or of_summary[summary] >= MOST_ROWS_OF_A_SUMMARY:
            counts["dropped: summary or name seen already"] += 1
            continue
        if of_package[row.source] >= MOST_ROWS_OF_A_PACKAGE:
            counts["dropped: package has its share"] += 1
            continue
        own = shingles(row.document)
        if any(
            jaccard(own, theirs) >= 0.5
            or containment(own, theirs) >= (0.3 if summaries[name] == summary else 0.7)
            for name, theirs in index.sharing(own)
        ):
            counts["dropped: near-duplicate document"] += 1
            continue
        index.add(row.id, own)
        summaries[row.id] = summary
        of_package[row.source] += 1
        of_summary[summary] += 1
        kept.append(row)
    return kept


def assign_splits(rows: list[Row]) -> dict[str, list[Row]]:
    """Whole packages to test, then validation, each up to its share, in hashed order; the rest trains."""
    size = Counter(row.source for row in rows)
    split_of: dict[str, str] = {}
    filled: Counter[str] = Counter()
    for package in sorted(size, key=lambda name: hashed("split", name)):
        split = "train"
        if size[package] <= LARGEST_HELD_OUT_PACKAGE * len(rows):
            split = next((s for s in ("test", "validation") if filled[s] < HELD_OUT_SHARE * len(rows)), "train")
        split_of[package] = split
        filled[split] += size[package]
    splits: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        splits[split_of[row.source]].append(row)
    return splits

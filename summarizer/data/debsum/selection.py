"""Which descriptions become rows of DebSum, and in which split: the rules of the reference corpus, in their order.

Nothing is drawn at random: every choice is a hash of a name, so the same lists give the same rows and a source package
keeps its split when the lists change. Rows of the splits `reserved` and `new` are made, so that the others come out
as in the reference, but they are never released.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from summarizer.data.debsum.lists import Package
from summarizer.data.debsum.text import clean_document, clean_summary
from summarizer.data.overlap import SketchIndex, contains_verbatim, containment, jaccard, shingles, words

RELEASED = ("train", "validation", "test")
SALT = "debsum-1"
# permille of the sources, in this order; the rest trains
RESERVED, TEST, VALIDATION = 12, 60, 50
LARGEST_FAMILY_TO_HOLD_OUT = 12
MOST_ROWS_OF_A_SYNOPSIS = 3
MOST_ROWS_OF_A_SOURCE = 4

# Auxiliary packages: what is left of their text speaks of the program, their synopsis of the part.
AUXILIARY = re.compile(
    r"(-dbg|-dbgsym|-docs?|-data|-common|-headers|-examples?|-demos?|-tests?|-testsuite|-source|-src|-static"
    r"|-i18n|-l10n|-locales?|-lang|-udeb|-prof)$"
)
GENERATED = re.compile(
    r"^(librust-.*|golang-.*-dev|linux-(image|headers|modules)-.*|task-.*|.*-l10n-.*|.*-i18n-.*|.*-locale-.*"
    r"|hunspell-.*|myspell-.*|aspell-.*|hyphen-.*|mythes-.*|fonts-noto-.*|gcc-\d.*|g\+\+-\d.*|gnat-\d.*|cpp-\d.*"
    r"|lib\S*-udeb|\S+-udeb|education-.*|tesseract-ocr-.*|apertium-.*|firmware-.*|libghc-.*-(prof|doc)|.*-dbgsym)$"
)
AUXILIARY_SECTIONS = frozenset(
    ("debug", "localization", "metapackages", "oldlibs", "debian-installer", "tasks", "kernel", "doc")
)
SAYS_NOTHING = re.compile(
    r"transitional|dummy|meta-?package|debug(ging)? symbols|virtual package|obsolete|empty package"
    r"|^(api |reference )?(documentation|manual|development (files|package|headers|librar\w+)|(c )?header files|headers"
    r"|data files|shared data|common files|examples?|architecture.independent files) (files |package |data )?"
    r"(of|for|from|used)\b",
    re.I,
)
SIBLING = re.compile(r"(-dev|-utils|-tools|-bin|-plugins?|-perl|-java|-dkms)$")

Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """One pair: document, summary, the binary package (id) and the source package it comes from."""

    id: str
    document: str
    summary: str
    source: str
    new: bool


def select(packages: Iterable[Package], report: Report = lambda done, total: None) -> tuple[dict[str, list[Row]], Counter[str]]:
    """The rows of every split, and how many were dropped by which rule.

    Args:
        report: told now and then how many rows of how many have been compared, which is what takes the time.
    """
    counts: Counter[str] = Counter()
    usable = []
    for package in packages:
        counts["binary packages"] += 1
        row, reason = as_row(package)
        if reason:
            counts["dropped: " + reason] += 1
        else:
            usable.append(row)
    by_source: dict[str, list[Row]] = defaultdict(list)
    for row in usable:
        by_source[row.source].append(row)
    different = [row for _, siblings in sorted(by_source.items()) for row in without_siblings(siblings)]
    counts["dropped: sibling of the same source"] = len(usable) - len(different)

    families = Families()
    distinct = without_near_duplicates(different, families, counts, report)
    final = without_worn_synopses(distinct, families, counts)
    splits = assign_splits(final, families, new_sources={s for s, rows in by_source.items() if all(r.new for r in rows)})
    for split, rows in splits.items():
        counts["split " + split] = len(rows)
    return splits, counts


def as_row(package: Package) -> tuple[Row, str | None]:
    """A package's row, and the rule that drops it, if any."""
    synopsis, _, description = package.description.partition("\n")
    row = Row(package.name, clean_document(description), clean_summary(synopsis), package.source, package.new)
    summary_words, document_words = len(words(row.summary)), len(words(row.document))
    reason = None
    if GENERATED.match(row.id) or AUXILIARY.search(row.id) or package.section in AUXILIARY_SECTIONS:
        reason = "generated or auxiliary package"
    elif SAYS_NOTHING.search(synopsis):
        reason = "transitional, dummy, meta or part-of-a-package synopsis"
    elif not 3 <= summary_words <= 16:
        reason = "summary under 3 or over 16 words"
    elif document_words < 25:
        reason = "document under 25 words"
    elif document_words > 400:
        reason = "document over 400 words"
    elif sum(map(str.isascii, row.document)) < 0.97 * len(row.document):
        reason = "not English"
    elif contains_verbatim(row.document, row.summary):
        reason = "summary stands verbatim in the document"
    return row, reason


def without_siblings(rows: list[Row]) -> list[Row]:
    """Of one source's rows the plainest (foo before foo-data before foo-dev), and those that tell of something else."""
    plainest, *others = sorted(rows, key=lambda r: (bool(SIBLING.search(r.id)), r.id != r.source, len(r.id), r.id))
    kept = [plainest]
    for row in others:
        if SIBLING.search(row.id) or len(kept) >= MOST_ROWS_OF_A_SOURCE:
            continue
        own = set(words(row.document))
        if all(
            jaccard(own, set(words(k.document))) < 0.25 and words(k.summary) != words(row.summary) for k in kept
        ):
            kept.append(row)
    return kept


class Families:
    """Sources that must stay in one split because they share text or a synopsis: a union-find forest."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        parent = self._parent
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        self._parent[self.root(a)] = self.root(b)


def hashed(purpose: str, name: str) -> int:
    """A number of 64 bits that only the name decides; used for every choice and order."""
    return int.from_bytes(hashlib.sha256(f"{SALT}\x1f{purpose}\x1f{name}".encode()).digest()[:8], "big")


def without_near_duplicates(rows: list[Row], families: Families, counts: Counter[str], report: Report) -> list[Row]:
    """Rows that say what no earlier one says, in hashed order; sources of merely related texts become a family.

    A row is compared with the kept ones that share one of its smallest shingles.
    """
    kept: list[Row] = []
    rows_by_id: dict[str, Row] = {}
    index = SketchIndex()
    for number, row in enumerate(sorted(rows, key=lambda r: hashed("order", r.id))):
        if number % 1000 == 0:
            report(number, len(rows))
        own, synopsis = shingles(row.document), words(row.summary)
        related = []
        for name, theirs in index.sharing(own):
            other, contained = rows_by_id[name], containment(own, theirs)
            if (
                jaccard(own, theirs) >= 0.5
                or contained >= 0.7
                or (contained >= 0.3 and synopsis == words(other.summary))
            ):
                counts["dropped: near-duplicate document"] += 1
                break
            if contained >= 0.2:
                related.append(other.source)
        else:
            for source in related:
                families.join(row.source, source)
            rows_by_id[row.id] = row
            kept.append(row)
            index.add(row.id, own)
    report(len(rows), len(rows))
    return kept


def without_worn_synopses(rows: list[Row], families: Families, counts: Counter[str]) -> list[Row]:
    """At most three rows of one synopsis, whose sources are a family."""
    times: Counter[str] = Counter()
    final = []
    for row in rows:
        synopsis = " ".join(words(row.summary))
        times[synopsis] += 1
        if times[synopsis] > MOST_ROWS_OF_A_SYNOPSIS:
            counts["dropped: synopsis seen 3 times already"] += 1
            continue
        final.append(row)
        families.join(row.source, "=" + synopsis)
    return final


def assign_splits(rows: list[Row], families: Families, new_sources: set[str]) -> dict[str, list[Row]]:
    """Every row in the split of its family, in hashed order."""
    sources: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sources[families.root(row.source)].add(row.source)
    size = Counter(families.root(row.source) for row in rows)
    split_of = {}
    for root, members in sources.items():
        share = hashed("split", min(members)) % 1000
        if size[root] > LARGEST_FAMILY_TO_HOLD_OUT:
            split_of[root] = "train"
        elif members <= new_sources:
            split_of[root] = "new"
        elif share < RESERVED:
            split_of[root] = "reserved"
        elif share < RESERVED + TEST:
            split_of[root] = "test"
        elif share < RESERVED + TEST + VALIDATION:
            split_of[root] = "validation"
        else:
            split_of[root] = "train"
    splits: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda r: hashed("row", r.id)):
        splits[split_of[families.root(row.source)]].append(row)
    return splits

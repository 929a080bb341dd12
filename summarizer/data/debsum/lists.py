"""Package lists to descriptions: `Packages` says what a package is part of, `Translation-en` what it does."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol


class Lists(Protocol):
    """The lists of an archive, as text."""

    @property
    def suites(self) -> tuple[str, ...]:
        """Oldest first: of a package in several suites, the newest text is taken."""

    def packages(self, suite: str) -> str:
        """The `Packages` list of the main component."""

    def translations(self, suite: str) -> str:
        """Its `Translation-en`: the long descriptions."""


@dataclass(frozen=True)
class Package:
    """A binary package with its newest description."""

    name: str
    source: str
    section: str
    description: str
    """Synopsis on the first line, then the long description with its markup."""
    new: bool
    """Its source stands in none of the settled suites."""


def stanzas(text: str, fields: Iterable[str]) -> Iterator[dict[str, str]]:
    """The named fields of each stanza; continuation lines keep their indentation (Debian Policy 5.1)."""
    pattern = re.compile(rf"^({'|'.join(map(re.escape, fields))}):(.*(?:\n[ \t].*)*)", re.M)
    for block in text.split("\n\n"):
        stanza = {}
        for name, value in pattern.findall(block):
            first, newline, rest = value.partition("\n")
            stanza[name] = first.strip() + newline + rest
        if stanza:
            yield stanza


def read_packages(lists: Lists, settled_suites: Iterable[str]) -> list[Package]:
    """Every described binary package of the lists, by name.

    Args:
        settled_suites: a source that stands in none of them is new.
    """
    suites_of: Mapping[str, set[str]] = defaultdict(set)
    newest: dict[str, tuple[str, str, str]] = {}
    for suite in lists.suites:
        origins = {}
        for stanza in stanzas(lists.packages(suite), ("Package", "Source", "Section", "Description-md5")):
            source = stanza.get("Source", stanza["Package"]).split(" ")[0]
            origins[stanza["Package"], stanza.get("Description-md5")] = source, stanza.get("Section", "")
            suites_of[source].add(suite)
        for stanza in stanzas(lists.translations(suite), ("Package", "Description-md5", "Description-en")):
            origin = origins.get((stanza["Package"], stanza.get("Description-md5")))
            text = stanza.get("Description-en")
            if origin and text:
                newest[stanza["Package"]] = (*origin, text)
    settled = set(settled_suites)
    return [
        Package(name, source, section, text, new=not suites_of[source] & settled)
        for name, (source, section, text) in sorted(newest.items())
    ]

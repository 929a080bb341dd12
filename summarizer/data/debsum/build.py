"""DebSum in the user's cache: found, or fetched and built."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from summarizer.data.debsum.archive import DEBIAN_SUITES, apt_site, fetch_from_mirror, fetch_with_apt
from summarizer.data.debsum.lists import Lists, read_packages
from summarizer.data.debsum.selection import RELEASED, select
from summarizer.data.progress import progress
from summarizer.data.store import built_once, read_mark, write_rows
from summarizer.errors import DataError

RULES = "1"  # of `selection` and `text`; another value builds the corpus anew beside the old one
SMALLEST_CORPUS = 1000  # rows; fewer mean that the lists were cut off


@dataclass(frozen=True)
class BuiltCorpus:
    """Where the Parquet files of a corpus are, one a split, and what building them counted."""

    folder: Path
    counts: dict[str, int]
    notice: str | None

    def file(self, split: str) -> Path:
        return self.folder / f"{split}.parquet"


def debsum(cache: Path, mirror: str | None = None, smallest: int = SMALLEST_CORPUS) -> BuiltCorpus:
    """DebSum from the cache; built first from `mirror`, or from what the machine's apt reads.

    A corpus of Debian itself is preferred to one of another distribution, wherever it came from.

    Args:
        cache: root of the user's cache.
        smallest: rows of the train split under which lists are taken to be incomplete.

    Raises:
        DataError: no apt and no mirror, no network, or damaged lists.
        OutputError: the cache cannot be written.
    """
    debian = cache / "debsum" / f"{RULES}-debian"
    if (mark := read_mark(debian)) is not None:
        return BuiltCorpus(debian, mark["notes"], None)
    if mirror:
        return BuiltCorpus(debian, built_once(debian, lambda folder: _build_from_mirror(mirror, folder, smallest)), None)
    site = apt_site()
    folder = debian if site.is_debian else debian.with_name(f"{RULES}-{'-'.join(site.suites)}")

    def build(into: Path) -> dict[str, int]:
        # inside the unfinished folder, so that a killed build leaves nothing that the next one does not clear
        with tempfile.TemporaryDirectory(dir=into) as lists_folder:
            with progress("debsum: fetching the package lists (50 MB)"):
                lists = fetch_with_apt(site, Path(lists_folder))
            return build_from_lists(lists, into, smallest)

    counts = built_once(folder, build)
    notice = None
    if not site.is_debian:
        notice = (
            f"debsum is built from this distribution's own suites ({', '.join(site.suites)}), not from Debian's: scores are "
            "not comparable with published ones; data.mirror=https://... names a Debian archive."
        )
    return BuiltCorpus(folder, counts, notice)


def _build_from_mirror(mirror: str, into: Path, smallest: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(dir=into) as lists_folder:
        with progress("debsum: fetching the package lists", "bytes") as report:
            lists = fetch_from_mirror(mirror, Path(lists_folder), report)
        return build_from_lists(lists, into, smallest)


def build_from_lists(lists: Lists, into: Path, smallest: int = SMALLEST_CORPUS) -> dict[str, int]:
    """Write the released splits of the corpus into a folder, and return the counts of `selection.select`.

    Raises:
        DataError: the lists hold so few packages that they cannot be whole.
    """
    # A source known only to the unstable suite is new; elsewhere no suite is unsettled.
    settled = lists.suites[:-1] if lists.suites == DEBIAN_SUITES else lists.suites
    with progress("debsum: building the corpus") as report:
        splits, counts = select(read_packages(lists, settled), report)
        if any(len(splits.get(name, ())) < (smallest if name == "train" else 1) for name in RELEASED):
            found = counts["binary packages"]
            raise DataError(
                f"the package lists give too few pairs for debsum ({found:,} packages in them): they are truncated or of a small "
                "archive; try again, name a Debian mirror with data.mirror=https://..., or use data=docstrings."
            )
        for name in RELEASED:
            write_rows(splits[name], ("id", "document", "summary", "source"), into / f"{name}.parquet")
    return dict(counts)

"""The docstrings corpus in the user's cache: found, or built from the packages of this environment."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from summarizer.data.docstrings.installed import Distribution, Docstring, distributions
from summarizer.data.docstrings.installed import docstrings as docstrings_of
from summarizer.data.docstrings.selection import select
from summarizer.data.progress import progress
from summarizer.data.store import built_once, write_rows
from summarizer.errors import DataError
from summarizer.hardware import usable_cores

RULES = "1"  # of `selection` and `text`; another value builds the corpus anew
SPLITS = ("train", "validation", "test")
SMALLEST_CORPUS = 500  # rows of the train split


def docstrings(cache: Path) -> tuple[Path, dict[str, int]]:
    """Folder of the corpus, one Parquet file a split, and what building it counted.

    It belongs to the packages and versions installed here: others give other rows, and a folder of their own.

    Raises:
        DataError: too few packages are installed to learn from.
        OutputError: the cache cannot be written.
    """
    installed = distributions()
    versions = "".join(f"{distribution.name}=={distribution.version}\n" for distribution in installed)
    mark = hashlib.sha256(f"{RULES}\n{versions}".encode()).hexdigest()[:16]
    folder = cache / "docstrings" / mark
    return folder, built_once(folder, lambda into: _build(installed, into))


def _build(installed: Sequence[Distribution], into: Path) -> dict[str, Any]:
    with progress("docstrings: reading the installed packages", "packages") as report:
        found: list[Docstring] = []
        with ProcessPoolExecutor(usable_cores()) as pool:
            largest_first = sorted(installed, key=lambda distribution: -len(distribution.files))
            for number, read in enumerate(pool.map(_read, largest_first), 1):
                found += read
                report(number, len(installed))
    splits, counts = select(itertools.chain(found))
    if len(splits["train"]) < SMALLEST_CORPUS or not splits["validation"] or not splits["test"]:
        raise DataError(
            f"the {len(installed)} Python packages installed here give only {len(splits['train'])} pairs of docstrings: "
            "use data=debsum, or your own files with data=files."
        )
    for split in SPLITS:
        write_rows(splits[split], ("id", "document", "summary", "source"), into / f"{split}.parquet")
    return dict(counts)


def _read(distribution: Distribution) -> list[Docstring]:
    return list(docstrings_of(distribution))

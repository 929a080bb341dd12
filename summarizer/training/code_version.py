"""The version of what computes a training: this program's own files that it runs, and the libraries below them.

A mended bug is a good reason to go on with another one, so a resume names a difference and does not refuse it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

COMPUTES = ("training", "models", "packing", "data")
"""Folders of the package whose files decide what a step does."""
LIBRARIES = ("torch", "pytorch-lightning", "transformers", "tokenizers", "peft")


@cache
def code_version() -> dict[str, str]:
    """Name -> version: `code`, a digest of the files, and each library's own."""
    return {"code": digest_of(Path(__file__).parents[1])} | {name: metadata.version(name) for name in LIBRARIES}


def digest_of(package: Path) -> str:
    """The digest of the files that compute, wherever they lie and however their lines end."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in COMPUTES for path in (package / folder).rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


def changed_code(stored: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """What differs, in one sentence with its consequence; None where nothing does."""
    changed = [
        f"{name} {stored.get(name, 'unknown')} -> {now.get(name)}"
        for name in {**stored, **now}
        if stored.get(name) != now.get(name)
    ]
    if not changed:
        return None
    return (
        f"the checkpoint was written by another version of what computes a training ({', '.join(changed)}): its steps from here on are "
        "the new version's, so the result can differ from that of one run."
    )

"""Downloads of a stored job into a folder here, each file checked by its digest."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

from summarizer.errors import OutputError
from summarizer.storage.manifest import MANIFEST, Entry, Manifest, read_manifest
from summarizer.storage.place import Place

log = logging.getLogger(__name__)


def stored_manifest(place: Place) -> Manifest | None:
    """None where no job has been stored.

    Raises:
        CheckpointError: it cannot be used.
        OutputError: the storage does not answer.
    """
    content = place.read(MANIFEST)
    return None if content is None else read_manifest(content, place.address)


def restore(place: Place, manifest: Manifest, folder: Path) -> list[str]:
    """Download all files of a manifest; each stands in the folder whole or not at all.

    Returns:
        Those that are missing or damaged there, and were left out.

    Raises:
        OutputError: the storage does not answer, or the folder cannot be written.
    """
    damaged = []
    for path, entry in manifest.files.items():
        target = folder / path
        if is_equal(target, entry):
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            place.download(entry.object, partial)
            if is_equal(partial, entry):
                os.replace(partial, target)
                continue
        except FileNotFoundError:
            pass
        except OutputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        except OSError as error:
            raise OutputError(f"{target} cannot be written ({error.strerror}): free some space.") from error
        finally:
            target.with_name(f".{target.name}.part").unlink(missing_ok=True)
        damaged.append(path)
    return damaged


def is_equal(path: Path, entry: Entry) -> bool:
    """Whether a file here is the one of an entry."""
    try:
        if path.stat().st_size != entry.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except FileNotFoundError:
        return False

"""Uploads of a job's folder: what has changed, then the manifest, then the end of what the manifest names no more."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from summarizer.errors import OutputError
from summarizer.run import Run
from summarizer.storage.manifest import MANIFEST, OWNER, Entry, Manifest, object_name
from summarizer.storage.place import Place

SMALL = 8_000_000
"""Bytes up to which a file is read at once, so that one that grows meanwhile is stored as it was at one moment."""
Mark = tuple[int, int, int]


class Replaced(OutputError):
    """Another process has taken this job over: its objects are not ours to change any more."""


class Uploader:
    """Keeps one place equal to one job's folder. Use from one thread at a time."""

    def __init__(self, place: Place, run: Run, writer: str) -> None:
        self._place, self._run, self._writer = place, run, writer
        self._stored: dict[str, tuple[Mark, Entry]] = {}
        self._objects = set(place.names())

    def upload(self) -> None:
        """Everything that has changed since the last time.

        Raises:
            Replaced: another process has become the owner.
            OutputError: the storage does not take it; the manifest is the one before.
        """
        try:
            found = {path: self._store(path) for path in files_of(self._run.folder)}
        except OSError as error:  # a disk that is full or broken here is no end of a job that trains
            raise OutputError(
                f"storage={self._place.address}: {self._run.folder} cannot be read ({error.strerror or error})."
            ) from error
        entries = {path: entry for path, entry in found.items() if entry is not None}
        self._check_owner()
        state = str(self._run.status().get("state", ""))
        self._place.write(MANIFEST, Manifest(state, time.time(), self._writer, entries).dump())
        kept = {entry.object for entry in entries.values()} | {MANIFEST, OWNER}
        old = sorted(name for name in self._objects if name not in kept)
        self._place.delete(old)
        self._objects -= set(old)

    def _check_owner(self) -> None:
        content = self._place.read(OWNER)
        if content is not None and self._writer.encode() not in content:
            raise Replaced(
                f"storage={self._place.address}: another process has taken this job over, so this one stops; start only one at a time."
            )

    def _store(self, path: str) -> Entry | None:
        """None where the file went away. One that changes while it is sent stays as it was stored before, if it was."""
        source = self._run.folder / path
        with suppress(FileNotFoundError):
            mark = mark_of(source)
            known = self._stored.get(path)
            if known is not None and known[0] == mark:
                return known[1]
            entry = self._put(path, source, mark)
            if entry is None:
                return known[1] if known is not None else None
            self._stored[path] = mark, entry
            return entry
        return None

    def _put(self, path: str, source: Path, mark: Mark) -> Entry | None:
        if mark[1] <= SMALL:
            content = source.read_bytes()
            entry = entry_of(path, hashlib.sha256(content).hexdigest(), len(content))
            if entry.object not in self._objects:
                self._place.write(entry.object, content)
                self._objects.add(entry.object)
            return entry
        # A link of its own: a checkpoint that is pruned or replaced meanwhile stays whole under it.
        with tempfile.TemporaryDirectory(dir=self._run.folder, prefix=".storing-") as folder:
            held = Path(folder) / source.name
            try:
                os.link(source, held)
            except FileNotFoundError:
                raise
            except OSError:  # a file system without links
                shutil.copy2(source, held)
            with held.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            entry = entry_of(path, digest, held.stat().st_size)
            if entry.object not in self._objects:
                self._place.upload(entry.object, held)
                self._objects.add(entry.object)  # also of a file that grew meanwhile: the next manifest ends it
            return entry if mark_of(held)[:2] == mark[:2] else None


def entry_of(path: str, sha256: str, size: int) -> Entry:
    return Entry(object_name(path, sha256), size, sha256)


def mark_of(path: Path) -> Mark:
    """What tells whether a file is another one than before."""
    info = path.stat()
    return info.st_mtime_ns, info.st_size, info.st_ino


def files_of(folder: Path) -> list[str]:
    """Relative paths of a job's own files: no hidden ones (locks, half-written), no links."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                found.append(path.relative_to(folder).as_posix())
    return found

"""Packed working trees of all launches of a user: bytes by digest, and a manifest for each tree.

Launches pack and put away at the same time. Whoever packs holds a lock that others who pack share; who puts away holds it alone,
or comes another time. A manifest that is younger than `FRESH_S` stays, since its launch may not be in the ledger yet.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

FRESH_S = 3600.0
_STAGED = ".staged-"


class Store:
    """The folder of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs = folder / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextlib.contextmanager
    def packing(self) -> Iterator[Packing]:
        """What is kept within it is in the store at its end, and nothing of it after an error."""
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=self.folder))
            try:
                packing = Packing(self._blobs, staged)
                yield packing
                packing.commit(self.folder)
            finally:
                shutil.rmtree(staged, ignore_errors=True)

    def forget_all_but(self, digests: set[str]) -> None:
        """Remove the other trees, unless they are fresh; nothing while another process packs."""
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return
            kept: set[str] = set()
            for manifest in self.folder.glob("*.json"):
                if manifest.stem in digests or time.time() - manifest.stat().st_mtime < FRESH_S:
                    kept |= {entry["digest"] for entry in json.loads(manifest.read_text())["entries"]}
                else:
                    manifest.unlink()
            for blob in self._blobs.iterdir():
                if blob.name not in kept:
                    blob.unlink()
            for staged in self.folder.glob(f"{_STAGED}*"):
                shutil.rmtree(staged, ignore_errors=True)


class Packing:
    """Bytes on their way into the store."""

    def __init__(self, blobs: Path, staged: Path) -> None:
        self._blobs, self._staged = blobs, staged
        self._manifest: tuple[str, str] | None = None

    def holds(self, digest: str) -> bool:
        return (self._blobs / digest).exists()

    def keep(self, content: bytes) -> str:
        """Returns the digest."""
        digest = hashlib.sha256(content).hexdigest()
        if not self.holds(digest):
            (self._staged / digest).write_bytes(content)
        return digest

    def manifest(self, digest: str, text: str) -> None:
        self._manifest = digest, text

    def commit(self, folder: Path) -> None:
        """Blobs first: a manifest names nothing that is not there."""
        for file in self._staged.iterdir():
            file.replace(self._blobs / file.name)
        if self._manifest is not None:
            digest, text = self._manifest
            partial = self._staged / "manifest"
            partial.write_text(text)
            os.replace(partial, folder / f"{digest}.json")

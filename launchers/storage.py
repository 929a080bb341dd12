"""`ResultStore` of jobs that keep their folder outside of their machines: a bucket, or whatever fsspec reaches.

A job that was given an address writes `<address>/<number>/manifest.json` last: version 1, `written` (seconds since the epoch), and
`files`, path -> `object` (a name below the same prefix), `size`, `sha256`. Here it is only read, and trusted no more than a machine is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from launchers.errors import BadMachine, MendInput, Unreachable
from launchers.host import Manifest, RemoteFile, RemoteLink
from launchers.job import JobSpec
from launchers.remote.checked import is_digest

MANIFEST = "manifest.json"
VERSION = 1
CHUNK = 1 << 20


class StoredResults:
    """The jobs of one launch in one storage."""

    def __init__(self, address: str) -> None:
        try:
            import fsspec
        except ImportError:
            raise MendInput(f"Reading {address} needs `pip install fsspec`.") from None
        self.address = address.rstrip("/")
        try:
            self._filesystem, self._root = fsspec.core.url_to_fs(self.address, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise MendInput(f"The storage {self.address} can't be read here ({type(error).__name__}).") from None
        self._objects: dict[tuple[int, str], str] = {}
        self._written: dict[int, float] = {}

    def is_newer(self, job: JobSpec) -> bool:
        """Whether something was stored after everything that lies in the job's folder here; errors as in `manifest`."""
        self.manifest(job)
        here = [
            path.stat().st_mtime for path in job.home.rglob("*") if path.is_file() and not path.name.startswith(".")
        ]
        return self._written[job.number] > max(here, default=0.0)

    def restore(self, job: JobSpec, folder: Path, entries: Sequence[RemoteFile | RemoteLink]) -> None:
        """Nothing: jobs write there, we do not."""

    def discard(self, job: JobSpec) -> None:
        """Nothing: it is there to outlive the machine."""

    def manifest(self, job: JobSpec) -> Manifest:
        """
        Raises:
            MendInput: the job has stored nothing.
            BadMachine: what is there makes no sense.
            Unreachable: the storage does not answer.
        """
        content = self._read(f"{job.number}/{MANIFEST}")
        if content is None:
            raise MendInput(f"Job {job.id} has stored nothing in {self.address}/{job.number}.")
        try:
            found = json.loads(content)
            assert found["version"] == VERSION
            self._written[job.number] = float(found["written"])
            files = []
            for path, entry in found["files"].items():
                name, size, digest = str(entry["object"]), int(entry["size"]), str(entry["sha256"])
                assert is_digest(digest)
                assert size >= 0
                assert ".." not in PurePosixPath(name).parts
                assert not PurePosixPath(name).is_absolute()
                self._objects[job.number, path] = name
                files.append(RemoteFile(path, size, digest))
        except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
            raise BadMachine(
                f"{self.address}/{job.number}/{MANIFEST} makes no sense ({type(error).__name__})"
            ) from None
        return Manifest(sorted(files, key=lambda file: file.path))

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        name = f"{self._root}/{job.number}/{self._objects[job.number, file.path]}"
        try:
            with self._filesystem.open(name, "rb") as opened:
                opened.seek(offset)
                while chunk := opened.read(CHUNK):
                    yield chunk
        except FileNotFoundError:
            return
        except Exception as error:  # each storage has its own kinds, and their texts may hold keys
            raise self._unreachable(error) from None

    def _read(self, name: str) -> bytes | None:
        try:
            return bytes(self._filesystem.cat_file(f"{self._root}/{name}"))
        except FileNotFoundError:
            return None
        except Exception as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: Any) -> Unreachable:
        return Unreachable(f"the storage {self.address} does not answer, or refuses this key ({type(error).__name__})")

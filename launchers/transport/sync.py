"""Brings a job's output folder home: every file verified by digest, whole or not at all, resumed where it broke off."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from launchers.capsule import matches
from launchers.errors import RetryLater
from launchers.host import Host, RemoteFile
from launchers.job import JobSpec
from launchers.remote.files import digest_of

log = logging.getLogger(__name__)
SCRATCH = ".sync"
"""Folder of unfinished downloads and of what is known of finished ones; gone when all is verified."""
CHANGING_TRIES = 3


@dataclass
class Pulled:
    """What one pull did."""

    files: int = 0
    bytes: int = 0
    refused: list[str] = field(default_factory=list)
    """Paths that may not be written here: absolute, outside the folder, or not regular files."""
    changing: list[str] = field(default_factory=list)
    """Files that changed while they were read: the next pull brings them."""


def pull(host: Host, job: JobSpec, patterns: list[str] | None = None) -> Pulled:
    """Bring what is new of a job's output folder; `patterns=None` brings all of it, and removes what is gone there.

    Raises:
        Unreachable: the connection broke; what arrived stays, and the next pull goes on from there.
    """
    folder = job.home
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    known = _Known(scratch / "known.json")
    report = Pulled()
    rows = host.manifest(job)
    for row in rows:
        if not row.regular or not is_safe(row.path, folder):
            report.refused.append(row.path)
        elif patterns is None or matches(row.path, patterns):
            _bring(host, job, row, folder, known, report)
    if patterns is None:
        present = {row.path for row in rows}
        for path in [path for path in known.rows if path not in present]:
            (folder / path).unlink(missing_ok=True)
            known.forget(path)
    known.save()
    return report


def pull_all(host: Host, job: JobSpec, heartbeat: Callable[[], None] = lambda: None) -> Pulled:
    """Bring everything of a job that has ended, and see that every file here is the one there.

    Raises:
        RetryLater: files kept changing although the job had ended.
    """
    for _ in range(CHANGING_TRIES):
        report = pull(host, job)
        if not report.changing:
            for path in report.refused:
                log.warning("job %s: %r was not fetched: only regular files inside the job's folder are", job.id, path)
            return report
        heartbeat()
    raise RetryLater(f"The results of job {job.id} keep changing on the machine ({', '.join(report.changing[:3])}).")


def finish(job: JobSpec) -> None:
    """Remove the bookkeeping of the downloads, once all is verified."""
    shutil.rmtree(job.home / SCRATCH, ignore_errors=True)


def held(job: JobSpec) -> list[RemoteFile]:
    """What of a job's folder was fetched and verified: what a new machine gets, to continue."""
    known = _Known(job.home / SCRATCH / "known.json")
    rows = []
    for path, (_, digest) in sorted(known.rows.items()):
        file = job.home / path
        if file.is_file() and known.digest(path, file) == digest:
            rows.append(RemoteFile(path, file.stat().st_size, digest))
    return rows


def is_safe(path: str, folder: Path) -> bool:
    """Whether a path that a machine named lies inside `folder`, followed through every link that is there."""
    pure = PurePosixPath(path)
    if (
        pure.is_absolute()
        or not pure.parts
        or ".." in pure.parts
        or "\0" in path
        or "\\" in path
        or pure.parts[0] == SCRATCH
    ):
        return False
    return (folder / path).resolve().is_relative_to(folder.resolve())


def _bring(host: Host, job: JobSpec, row: RemoteFile, folder: Path, known: _Known, report: Pulled) -> None:
    target = folder / row.path
    if target.is_file() and target.stat().st_size == row.size and known.digest(row.path, target) == row.digest:
        return
    partial = folder / SCRATCH / f"{row.digest}.partial"
    hashed = hashlib.sha256()
    offset = 0
    if partial.exists() and partial.stat().st_size <= row.size:
        content = partial.read_bytes()
        hashed.update(content)
        offset = len(content)
    with partial.open("ab" if offset else "wb") as file:
        for chunk in host.read(job, row, offset):
            file.write(chunk)
            hashed.update(chunk)
            report.bytes += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if hashed.hexdigest() != row.digest:
        partial.unlink()
        report.changing.append(row.path)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
    known.remember(row.path, target, row.digest)
    known.save()
    report.files += 1


class _Known:
    """Digests of the files that were fetched, each with a mark that tells whether the file was touched since."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.rows: dict[str, list[str]] = json.loads(path.read_text())
        except (OSError, ValueError):
            self.rows = {}

    def digest(self, path: str, file: Path) -> str:
        mark, digest = self.rows.get(path, ["", ""])
        if mark != _mark(file):
            digest = digest_of(file)
            if path in self.rows and self.rows[path][1] == digest:
                self.remember(path, file, digest)
        return digest

    def remember(self, path: str, file: Path, digest: str) -> None:
        self.rows[path] = [_mark(file), digest]

    def forget(self, path: str) -> None:
        del self.rows[path]

    def save(self) -> None:
        partial = self._path.with_suffix(".writing")
        partial.write_text(json.dumps(self.rows))
        partial.replace(self._path)


def _mark(file: Path) -> str:
    info = file.stat()
    return f"{info.st_size}:{info.st_mtime_ns}"

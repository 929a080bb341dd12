"""Downloads a job's output folder: every file verified by digest, whole or not at all, resumed where it broke off.

The rows of the machine's manifest are a stranger's. They decide neither where something is written (`names`, `folder`) nor
how much (`_Limits`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from launchers.errors import RetryLater
from launchers.host import Refused, RemoteFile, ResultStore
from launchers.job import JobSpec
from launchers.remote.files import is_digest
from launchers.settings import RentalSettings
from launchers.snapshot import matches
from launchers.text import shown
from launchers.transport.folder import CHUNK, Folder
from launchers.transport.names import LOCK_NAME, SCRATCH, twins, why_refused

log = logging.getLogger(__name__)
KNOWN = f"{SCRATCH}/known.json"
CHANGING_TRIES = 3
SAVE_EVERY_S = 1.0
NAMED = 20
"""Refused files that are named one by one."""
KEPT_FREE = 500e6
"""Bytes of this computer's disk that downloads leave free; less where that is over a twentieth of it."""
_NAMES = frozenset((errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.ENOTEMPTY,
                    errno.EINVAL, errno.EILSEQ))  # fmt: skip
"""What the system says of a name that does not fit what lies here; anything else is this computer's trouble."""


@dataclass
class Pulled:
    """What one pull did."""

    files: int = 0
    bytes: int = 0
    refused: list[Refused] = field(default_factory=list)
    changing: list[str] = field(default_factory=list)
    """Files that changed while they were read: the next pull brings them."""
    postponed: list[str] = field(default_factory=list)
    """Files for which this computer's disk has no room now."""


def pull(store: ResultStore, job: JobSpec, patterns: list[str] | None = None) -> Pulled:
    """Download what is new of a job's output folder; `patterns=None`: all of it, and what is gone there is removed.

    Raises:
        Unreachable: the connection broke; what arrived stays, and the next pull goes on from there.
        BadMachine: the machine's answers make no sense.
        OSError: this computer's disk is full; what there was room for is here.
    """
    manifest = store.manifest(job)
    report = Pulled(refused=list(manifest.refused))
    with Folder(job.home) as folder:
        known = _Known(folder)
        limits = _Limits.of(job)
        files = _allowed(manifest.files, folder, report)
        names = {row.path for row in manifest.files} | {refused.path for refused in manifest.refused}
        gone = [path for path in known.rows if path not in names] if patterns is None else []
        # Where a file was and a folder is now, the file must leave first.
        in_the_way = {parent for row in files for parent in _parents(row.path)}
        _remove([path for path in gone if path in in_the_way], folder, known)
        _clear_partials(folder, files)
        try:
            for row in files:
                if not limits.take(row):
                    report.refused.append(
                        Refused(row.path, "the results are larger than provider.max_results_gb: raise it")
                    )
                elif patterns is None or matches(row.path, patterns):
                    _bring_if_possible(store, job, row, folder, known, report)
            _remove([path for path in gone if path in known.rows], folder, known)
        finally:
            known.save()
    if report.postponed and patterns is None:
        free = shutil.disk_usage(job.home).free / 1e9
        raise OSError(
            errno.ENOSPC,
            f"No space left on device: {free:.1f} GB are free in {job.home}, and {len(report.postponed)} files were not downloaded "
            f"({', '.join(report.postponed[:3])})",
        )
    return report


def pull_all(store: ResultStore, job: JobSpec, heartbeat: Callable[[], None] = lambda: None) -> Pulled:
    """Download everything of a job that has ended, and see that every file here is the one there.

    Raises:
        RetryLater: files kept changing although the job had ended.
        OSError: this computer's disk has no room for them.
    """
    for _ in range(CHANGING_TRIES):
        report = pull(store, job)
        if not report.changing:
            say_refused(report, job)
            return report
        heartbeat()
    raise RetryLater(f"The results of job {job.id} keep changing on the machine ({', '.join(report.changing[:3])}).")


def say_refused(report: Pulled, job: JobSpec) -> None:
    """Name what was not downloaded, and why."""
    for refused in report.refused[:NAMED]:
        if refused.path != LOCK_NAME:  # every job of ours holds one
            log.warning(
                "job %s: not downloaded: '%s' (%s)",
                job.id, shown(refused.path, lines=False), shown(refused.why, lines=False),
            )  # fmt: skip
    if len(report.refused) > NAMED:
        log.warning("job %s: %d more files were not downloaded", job.id, len(report.refused) - NAMED)


def finish(job: JobSpec) -> None:
    """Remove the bookkeeping of the downloads, once all is verified."""
    shutil.rmtree(job.home / SCRATCH, ignore_errors=True)


def held(job: JobSpec) -> list[RemoteFile]:
    """What of a job's folder was fetched and verified: what a new machine gets, to continue."""
    if not job.home.is_dir():
        return []
    with Folder(job.home) as folder:
        known = _Known(folder)
        rows = []
        for path, (_, digest) in sorted(known.rows.items()):
            info = folder.info(path)
            if info is not None and known.digest(path, info) == digest:
                rows.append(RemoteFile(path, info.st_size, digest))
        return rows


@dataclass
class _Limits:
    """How much one manifest may bring."""

    left: float

    @staticmethod
    def of(job: JobSpec) -> _Limits:
        gigabytes = job.settings.get("max_results_gb", RentalSettings.max_results_gb)
        return _Limits(float(gigabytes) * 1e9)

    def take(self, row: RemoteFile) -> bool:
        if row.size > self.left:
            return False
        self.left -= row.size
        return True


def _allowed(rows: list[RemoteFile], folder: Folder, report: Pulled) -> list[RemoteFile]:
    """The rows that may be written here; the others are refused with their reason."""
    reasons = {row.path: why_refused(row.path) for row in rows}
    if not _is_case_sensitive(folder):
        for path, earlier in twins(row.path for row in rows if reasons[row.path] is None).items():
            reasons[path] = f"this disk takes it and '{earlier}' for one"
    report.refused += [Refused(row.path, why) for row in rows if (why := reasons[row.path]) is not None]
    return [row for row in rows if reasons[row.path] is None]


def _is_case_sensitive(folder: Folder) -> bool:
    """Whether this disk tells `a` from `A`."""
    name = f"{SCRATCH}/case"
    with folder.open(name, os.O_WRONLY | os.O_CREAT, "wb"):
        pass
    different = folder.info(f"{SCRATCH}/CASE") is None
    folder.remove(name)
    return different


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _remove(paths: list[str], folder: Folder, known: _Known) -> None:
    for path in paths:
        with contextlib.suppress(OSError):
            folder.remove(path)
        del known.rows[path]


def _partial(row: RemoteFile) -> str:
    """Where a file lies while it comes: a name that we make, whatever the row says."""
    name = hashlib.sha256(f"{row.path}\0{row.digest}".encode(errors="surrogateescape")).hexdigest()
    return f"{SCRATCH}/{name[:32]}.partial"


def _clear_partials(folder: Folder, rows: list[RemoteFile]) -> None:
    """Remove beginnings of files that are no longer there."""
    wanted = {_partial(row) for row in rows}
    for path in (folder.path / SCRATCH).glob("*.partial"):
        if f"{SCRATCH}/{path.name}" not in wanted:
            folder.remove(f"{SCRATCH}/{path.name}")


def _bring_if_possible(
    store: ResultStore, job: JobSpec, row: RemoteFile, folder: Folder, known: _Known, report: Pulled
) -> None:
    try:
        _bring(store, job, row, folder, known, report)
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        report.refused.append(Refused(row.path, f"it does not fit what lies here: {error.strerror}"))


def _bring(store: ResultStore, job: JobSpec, row: RemoteFile, folder: Folder, known: _Known, report: Pulled) -> None:
    info = folder.info(row.path)
    if info is not None and info.st_size == row.size and known.digest(row.path, info) == row.digest:
        known.remember(row.path, info, row.digest)
        return
    partial = _partial(row)
    with folder.open(partial, os.O_RDWR | os.O_CREAT, "r+b") as file:
        hashed, here = hashlib.sha256(), 0
        while chunk := file.read(CHUNK):
            hashed.update(chunk)
            here += len(chunk)
        left = row.size - here
        if left > 0 and not _has_room(folder, left):
            report.postponed.append(row.path)
            return
        if left > 0:
            with contextlib.closing(_generator(store.read(job, row, here))) as chunks:
                for chunk in chunks:
                    left -= len(chunk)
                    if left < 0:
                        break  # more than the row says: it is not the file that the row describes
                    file.write(chunk)
                    hashed.update(chunk)
                    report.bytes += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    if left < 0 or hashed.hexdigest() != row.digest:
        folder.remove(partial)
        report.changing.append(row.path)
        return
    folder.move(partial, row.path)
    info = folder.info(row.path)
    assert info is not None
    known.remember(row.path, info, row.digest)
    known.save_now_and_then()
    report.files += 1


def _generator(chunks: Any) -> Any:
    """What `closing` can close: a host may hand out a plain iterator."""
    return chunks if hasattr(chunks, "close") else (chunk for chunk in chunks)


def _has_room(folder: Folder, size: int) -> bool:
    usage = shutil.disk_usage(folder.path)
    return usage.free - size >= min(KEPT_FREE, usage.total / 20)


class _Known:
    """Digests of the files that were fetched, each with a mark that tells whether the file was touched since."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._saved = 0.0
        self.rows: dict[str, list[str]] = {}
        try:
            with folder.open(KNOWN, os.O_RDONLY, "rb") as file:
                rows = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(rows, dict):
            self.rows = {path: row for path, row in rows.items() if why_refused(path) is None and _is_row(row)}

    def digest(self, path: str, info: os.stat_result) -> str:
        mark, digest = self.rows.get(path, ["", ""])
        if mark != _mark(info):
            digest = self._folder.digest(path)
            if path in self.rows and self.rows[path][1] == digest:
                self.remember(path, info, digest)
        return digest

    def remember(self, path: str, info: os.stat_result, digest: str) -> None:
        self.rows[path] = [_mark(info), digest]

    def save_now_and_then(self) -> None:
        """Not after each file: with thousands of them that would be most of the work."""
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        writing = f"{SCRATCH}/known.writing"
        with self._folder.open(writing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "wb") as file:
            file.write(json.dumps(self.rows).encode())
        self._folder.move(writing, KNOWN)
        self._saved = time.monotonic()


def _is_row(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and is_digest(row[1])


def _mark(info: os.stat_result) -> str:
    return f"{info.st_size}:{info.st_mtime_ns}"

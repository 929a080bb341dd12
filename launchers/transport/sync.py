"""Downloads a job's output folder: every file verified by digest, whole or not at all, resumed where it broke off.

The rows of the machine's manifest are a stranger's. They decide neither where something is written (`names`, `folder`) nor
how much (`_Limits`). Small files come many at a time, where the host can (`ReadsMany`).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from launchers.errors import RetryLater
from launchers.host import Manifest, ReadsMany, Refused, RemoteFile, RemoteLink, ResultStore
from launchers.job import JobSpec
from launchers.secrecy import scrub
from launchers.settings import RentalSettings
from launchers.snapshot import matches
from launchers.text import shown
from launchers.transport.folder import CHUNK, Folder
from launchers.transport.known import Known
from launchers.transport.names import LOCK_NAME, SCRATCH, twins, why_refused

log = logging.getLogger(__name__)
CHANGING_TRIES = 3
SMALL = 1 << 20
"""Bytes of a file up to which it comes together with others."""
BATCH_BYTES = 8 << 20
BATCH_FILES = 2000
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
    with Folder(job.home) as folder, contextlib.closing(Known(folder)) as known:
        report = _Pull(store, job, folder, known, manifest, patterns).run()
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
                job.id, shown(scrub(refused.path), lines=False), shown(scrub(refused.why), lines=False),
            )  # fmt: skip
    if len(report.refused) > NAMED:
        log.warning("job %s: %d more files were not downloaded", job.id, len(report.refused) - NAMED)


def finish(job: JobSpec) -> None:
    """Remove the bookkeeping of the downloads, once all is verified."""
    shutil.rmtree(job.home / SCRATCH, ignore_errors=True)


def held(job: JobSpec) -> list[RemoteFile | RemoteLink]:
    """What of a job's folder was fetched and verified: what a new machine gets, to continue."""
    if not job.home.is_dir():
        return []
    with Folder(job.home) as folder, contextlib.closing(Known(folder)) as known:
        rows: list[RemoteFile | RemoteLink] = []
        for path, (_, digest) in sorted(known.files.items()):
            info = folder.info(path)
            if info is not None and (found := known.digest(path, info)) in (digest, known.before(path)):
                rows.append(RemoteFile(path, info.st_size, found))
        rows += [
            RemoteLink(path, target) for path, target in sorted(known.links.items()) if folder.link(path) is not None
        ]
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


class _Pull:
    """One pull: what of a manifest comes here, and how."""

    def __init__(
        self,
        store: ResultStore,
        job: JobSpec,
        folder: Folder,
        known: Known,
        manifest: Manifest,
        patterns: list[str] | None,
    ) -> None:
        self._store, self._job, self._folder, self._known = store, job, folder, known
        self._manifest, self._patterns = manifest, patterns
        self._links = manifest.links
        self._report = Pulled(refused=list(manifest.refused))

    def run(self) -> Pulled:
        manifest, known = self._manifest, self._known
        files = self._allowed(manifest.files)
        there = {row.path for row in manifest.files} | {row.path for row in manifest.links}
        there |= {refused.path for refused in manifest.refused}
        gone = [path for path in (*known.files, *known.links) if path not in there] if self._patterns is None else []
        # Where a file was and a folder is now, the file must leave first.
        coming = [*(row.path for row in files), *(link.path for link in manifest.links)]
        in_the_way = {parent for path in coming for parent in _parents(path)}
        self._remove([path for path in gone if path in in_the_way])
        self._clear_partials(files)
        try:
            self._bring_all([row for row in files if self._is_due(row)])
            self._make_links(files)
            if self._patterns is None:
                self._make_folders()
            self._remove([path for path in gone if known.holds(path)])
        finally:
            if self._patterns is None:  # what comes home early is still on its machine
                self._folder.flush()
        return self._report

    def _is_due(self, row: RemoteFile) -> bool:
        return self._patterns is None or matches(row.path, self._patterns)

    def _allowed(self, rows: list[RemoteFile]) -> list[RemoteFile]:
        """The rows that may be written here; the others are refused with their reason."""
        reasons = {row.path: why_refused(row.path) for row in rows}
        if not _is_case_sensitive(self._folder):
            paths = [*(row.path for row in rows), *(link.path for link in self._manifest.links)]
            names = [path for path in paths if reasons.get(path) is None]
            for path, earlier in twins(names).items():
                reasons[path] = f"this disk takes it and '{earlier}' for one"
        limits = _Limits.of(self._job)
        for row in rows:
            if reasons[row.path] is None and not limits.take(row):
                reasons[row.path] = "the results are larger than provider.max_results_gb: raise it"
        self._report.refused += [Refused(path, why) for path, why in reasons.items() if why is not None]
        self._links = [row for row in self._manifest.links if row.path not in reasons]
        return [row for row in rows if reasons[row.path] is None]

    def _remove(self, paths: list[str]) -> None:
        for path in paths:
            with contextlib.suppress(OSError):
                self._folder.remove(path)
            self._known.forget(path)

    def _clear_partials(self, rows: list[RemoteFile]) -> None:
        """Remove beginnings of files that are no longer there."""
        partials = {f"{SCRATCH}/{path.name}" for path in (self._folder.path / SCRATCH).glob("*.partial")}
        if partials:
            for path in partials - {_partial(row) for row in rows}:
                self._folder.remove(path)

    # --- files

    def _bring_all(self, rows: list[RemoteFile]) -> None:
        """Small files that are new come in batches, and all others one by one."""
        if not isinstance(self._store, ReadsMany):
            for row in rows:
                with self._fitting(row):
                    self._bring(row)
            return
        batch: list[RemoteFile] = []
        left = BATCH_BYTES
        for row in rows:
            if row.size > SMALL:
                with self._fitting(row):
                    self._bring(row)
            elif not self._is_here(row):
                if batch and (row.size > left or len(batch) >= BATCH_FILES):
                    self._bring_batch(self._store, batch)
                    batch, left = [], BATCH_BYTES
                batch.append(row)
                left -= row.size
        if batch:
            self._bring_batch(self._store, batch)

    def _bring_batch(self, store: ReadsMany, rows: list[RemoteFile]) -> None:
        if not self._has_room(sum(row.size for row in rows)):
            self._report.postponed += [row.path for row in rows]
            return
        with contextlib.closing(_generator(store.read_many(self._job, [(row, 0) for row in rows]))) as found:
            for row, content in found:
                if content is None or len(content) != row.size or hashlib.sha256(content).hexdigest() != row.digest:
                    self._report.changing.append(row.path)
                    continue
                with self._fitting(row):
                    self._folder.write(
                        row.path, content, functools.partial(self._known.remember, row.path, digest=row.digest)
                    )
                    self._report.files += 1
                    self._report.bytes += len(content)

    @contextlib.contextmanager
    def _fitting(self, row: RemoteFile) -> Iterator[None]:
        """A name that does not fit what lies here costs only this row."""
        try:
            yield
        except OSError as error:
            if error.errno not in _NAMES:
                raise
            self._report.refused.append(Refused(row.path, f"it does not fit what lies here: {error.strerror}"))

    def _is_here(self, row: RemoteFile) -> bool:
        info = self._folder.info(row.path)
        if info is None or info.st_size != row.size or self._known.digest(row.path, info) != row.digest:
            return False
        self._known.remember(row.path, info, row.digest)
        return True

    def _bring(self, row: RemoteFile) -> None:
        """A file whose beginning may be here."""
        if self._is_here(row):
            return
        folder, report, partial = self._folder, self._report, _partial(row)
        with folder.open(partial, os.O_RDWR | os.O_CREAT, "r+b") as file:
            hashed, here = hashlib.sha256(), 0
            while chunk := file.read(CHUNK):
                hashed.update(chunk)
                here += len(chunk)
            left = row.size - here
            if left > 0 and not self._has_room(left):
                report.postponed.append(row.path)
                return
            if left > 0:
                with contextlib.closing(_generator(self._store.read(self._job, row, here))) as chunks:
                    for chunk in chunks:
                        left -= len(chunk)
                        if left < 0:
                            break  # more than the row says: it is not the file that the row describes
                        file.write(chunk)
                        hashed.update(chunk)
                        report.bytes += len(chunk)
        if left < 0 or hashed.hexdigest() != row.digest:
            folder.remove(partial)
            report.changing.append(row.path)
            return
        info = folder.info(partial)
        assert info is not None
        # Before it has its name: whatever ends this process between the two, one of the two contents is known as downloaded.
        self._known.remember(row.path, info, row.digest)
        folder.move(partial, row.path)
        report.files += 1

    def _has_room(self, size: int) -> bool:
        usage = shutil.disk_usage(self._folder.path)
        return usage.free - size >= min(KEPT_FREE, usage.total / 20)

    # --- what is no file

    def _make_links(self, files: list[RemoteFile]) -> None:
        """Links to what is downloaded, and to nothing else."""
        paths = {row.path for row in files}
        folders = {parent for path in paths for parent in _parents(path)}
        for row in self._links:
            why = _why_no_link(row, paths, folders)
            if why is not None:
                self._report.refused.append(Refused(row.path, why))
                continue
            if self._patterns is not None and not matches(row.path, self._patterns):
                continue
            target = os.path.relpath(row.target, os.path.dirname(row.path) or ".")
            if self._folder.link(row.path) != target:
                with self._fitting(RemoteFile(row.path, 0, "0" * 64)):
                    self._folder.make_link(row.path, target)
                    self._report.files += 1
            self._known.remember_link(row.path, row.target)

    def _make_folders(self) -> None:
        for path in self._manifest.folders:
            if why_refused(path) is None:
                with contextlib.suppress(OSError):  # something else lies here
                    self._folder.make_folder(path)


def _why_no_link(row: RemoteLink, files: set[str], folders: set[str]) -> str | None:
    """Why a link is not made here; None when it leads to something that is downloaded."""
    why = why_refused(row.path)
    if why is not None:
        return why
    if row.path in files or row.path in folders:
        return "the machine lists it twice"
    if row.target in files:
        return None
    if row.target not in folders:
        return "it is a link to something that is not downloaded"
    if f"{row.path}/".startswith(f"{row.target}/"):
        return "it is a link to a folder that it lies in"
    # A file must not get a name through a link that it may not have by itself.
    below = (path.removeprefix(row.target) for path in files if path.startswith(f"{row.target}/"))
    return next((why for rest in below if (why := why_refused(row.path + rest)) is not None), None)


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


def _partial(row: RemoteFile) -> str:
    """Where a file lies while it comes: a name that we make, whatever the row says."""
    name = hashlib.sha256(f"{row.path}\0{row.digest}".encode(errors="surrogateescape")).hexdigest()
    return f"{SCRATCH}/{name[:32]}.partial"


def _generator(chunks: Any) -> Any:
    """What `closing` can close: a host may hand out a plain iterator."""
    return chunks if hasattr(chunks, "close") else (chunk for chunk in chunks)

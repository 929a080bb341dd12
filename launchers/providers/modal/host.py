"""`Host` without a machine: a job is a call of the application's Function, its folder lies on a Volume."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from launchers.command import arguments_of, environment_of
from launchers.errors import BadMachine, RetryLater, Unreachable
from launchers.host import JobStatus, Manifest, Probe, Refused, RemoteFile, RemoteLink
from launchers.job import JobPaths, JobSpec
from launchers.providers.base import JobHandles
from launchers.providers.modal import worker
from launchers.providers.modal.calls import CallEnd, end_of_call
from launchers.providers.modal.exceptions import translated
from launchers.providers.modal.logs import LogPieces
from launchers.providers.modal.prices import cap_of
from launchers.providers.modal.settings import ModalSettings
from launchers.remote.checked import MAX_ROWS
from launchers.remote.messages import Attempt
from launchers.snapshot import Snapshot
from launchers.transport import messages

TREE = "tree"
"""Folder beside this package in the container that holds the working tree."""
CLEAN_UP_S = 15.0
"""Beyond the grace: how long a cancelled container may take to put its last state on the Volume."""
QUEUED_CLEAN_UP_S = 2.0
LOG_SILENCE_S = 0.3
LOG_REST_S = 5.0
REPORTS_BYTES = 1 << 20
READERS = 8
"""Files of a Volume that are read at a time."""
MARGIN_S = 30.0
"""An attempt ends itself this much before Modal would."""
REPEAT_S = 3.0
"""After a start that was not answered: how long its container may take to be seen before it is asked for again."""


@dataclass
class ModalHost:
    """The jobs of one application. Works for one that has ended: calls and Volume outlive it."""

    instance: str
    settings: ModalSettings
    handles: JobHandles
    function: Any = None
    """None in a process that did not make the application: it follows jobs, and can't start any."""
    leave: Callable[[], None] = lambda: None
    _stopping: dict[str, tuple[str, float]] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, float] = field(default_factory=dict)
    """When a start was asked for and not answered."""

    # --- what a machine needs and a container brings

    def probe(self) -> Probe:
        """Modal starts a container on what was asked for, or none."""
        return Probe((), 0.0, 0.0, "")

    def lease(self, terms: dict[str, Any]) -> None:
        """Every call has its timeout, and the worker its hours."""

    def upload(self, snapshot: Snapshot) -> int:
        """It came with the application."""
        return 0

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        """The image has it all."""
        return python or ""

    # --- a job

    def restore(self, job: JobSpec, folder: Path, entries: Sequence[RemoteFile | RemoteLink]) -> None:
        """What the Volume holds is never older than what was fetched from it; only an emptied one gets it back.

        An upload to a Volume knows no links: a link to a file goes as a copy of it.
        """
        with translated():
            if self._exists(self._path(job, "output")):
                return
            with self._volume.batch_upload(force=True) as batch:
                for entry in entries:
                    if (folder / entry.path).is_file():
                        batch.put_file(str(folder / entry.path), f"/{self._path(job, 'output')}/{entry.path}")

    def start(
        self,
        job: JobSpec,
        python: str,
        snapshot: Snapshot,
        secrets: dict[str, str],
        facts: dict[str, str],
        grace: float,
    ) -> None:
        """Secrets went to Modal with the application: a payload may be read by whoever sees the call."""
        if self.function is None:
            raise BadMachine("this client did not make the application, so that it can't start jobs in it")
        if self._call_id(job) is not None:
            return
        settings, paths = self.settings, JobPaths(PurePosixPath(self.settings.mount_path), job.id)
        max_seconds, cap = cap_of(settings, job)
        slice_s = settings.timeout_s - min(MARGIN_S + settings.grace_s, settings.timeout_s / 2)
        payload = {
            "job": job.id, "application": self.instance, "root": settings.mount_path,
            "volume": settings.volume, "cache_volume": settings.cache_volume,
            "directory": f"{TREE}/{snapshot.directory}", "python": settings.python,
            # Relative: where the tree lies is the container's knowledge.
            "paths": environment_of(PurePosixPath(TREE)),
            "variables": facts | {name: value.replace("{job}", job.id) for name, value in settings.variables.items()},
            "arguments": arguments_of(job, paths.output), "grace": min(grace, settings.grace_s),
            "commit_every": settings.sync_every_s, "max_seconds": max_seconds, "cap": cap, "slice_seconds": slice_s,
        }  # fmt: skip
        if self._has_begun(job):
            return
        try:
            with translated():
                call = self.function.spawn(payload)
        except RetryLater as error:
            if error.may_have_acted:
                self._asked[job.id] = time.time()
            raise
        self.handles.put(job.id, f"{self.instance}/{call.object_id}")

    def _has_begun(self, job: JobSpec) -> bool:
        """Whether an earlier request to start the job, which was not answered, has started it.

        Raises:
            Unreachable: nobody can tell yet: two containers that start at once do not see each other, and both are billed.
        """
        asked = self._asked.get(job.id)
        if asked is None:
            return False
        begun = [attempt for attempt in self._attempts(job) if attempt.application == self.instance]
        if begun:
            self.handles.put(job.id, f"{self.instance}/{begun[-1].call}")
            return True
        if time.time() - asked < REPEAT_S:
            raise Unreachable(f"Modal has not answered the request to start job {job.id}: waiting whether it starts")
        return False

    def job_status(self, job: JobSpec) -> JobStatus:
        call_id = self._call_id(job) or self._adopted(job)
        if call_id is None:
            return {"state": "absent", "billed_s": 0.0}
        end = end_of_call(call_id)
        if end is None:
            return {"state": "running", "billed_s": self._running_s(job), "queued": job.id not in self._started}
        attempts = self._attempts(job)
        owner = attempts[-1] if attempts else None
        if end.kind == "success" and owner and owner.application == self.instance and owner.call != call_id:
            # Another call of this application had the job already: ours did nothing.
            self.handles.put(job.id, f"{self.instance}/{owner.call}")
            return {"state": "running", "billed_s": 0.0}
        written = self._json(job, "status.json")
        status: JobStatus = {"state": "lost"} if written is None else messages.job_status(written)
        status["billed_s"] = sum(attempt.seconds for attempt in attempts)
        if end.kind in ("success", "expired") and status["state"] == "ended":
            return self._with_value(job, status)
        return self._without_result(job, end, status)

    def _without_result(self, job: JobSpec, end: CallEnd, status: JobStatus) -> JobStatus:
        """A call that was cancelled, timed out, or lost its container once too often; the Volume knows more."""
        reason, asked = self._stopping.get(job.id, (None, 0.0))
        stopped = status.get("stopped")
        if status["state"] == "ended" and stopped not in (None, worker.PREEMPTED):
            over = worker.MAX_HOURS if stopped == worker.SLICE_OVER else stopped
            return self._with_value(job, {**status, "stopped": reason or over})
        if reason is not None:
            started = job.id in self._started or status["state"] != "lost"
            patience = self.settings.grace_s + CLEAN_UP_S if started else QUEUED_CLEAN_UP_S
            if time.time() - asked < patience:
                return {**status, "state": "running"}
            return {**status, "state": "ended", "stopped": reason}
        if end.kind == "timeout":
            return {**status, "state": "ended", "stopped": worker.MAX_HOURS}
        if end.kind in ("internal", "success") or not self._application_lives():
            return {**status, "state": "lost"}
        code = 137 if not end.words.strip() or "exit" in end.words.lower() else 1
        return {**status, "state": "ended", "exit_code": code, "why": end.words or "no reason given"}

    def _with_value(self, job: JobSpec, status: JobStatus) -> JobStatus:
        returned = self._json(job, "return.json")
        status = {**status, "value": None if returned is None else messages.returned(returned)}
        # What an earlier container of the job said is in no file, so that this one's log says nothing about the whole.
        return status if len(self._attempts(job)) > 1 else {**status, "log_size": self._log_size(job)}

    def _log_size(self, job: JobSpec) -> int:
        with translated(), contextlib.suppress(FileNotFoundError):
            return sum(entry.size for entry in self._volume.iterdir(self._path(job, "log"), recursive=False))
        return 0

    def stop(self, job: JobSpec, reason: str) -> None:
        call_id = self._call_id(job)
        if call_id is None:
            return
        import modal

        self._stopping.setdefault(job.id, (reason, time.time()))
        with translated():
            modal.FunctionCall.from_id(call_id).cancel()

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        """Modal replays a call's log from its start; what is here already is skipped by its length."""
        call_id = self._call_id(job)
        if call_id is None:
            raise RetryLater(f"job {job.id} has not been started")
        sent = offset
        with translated():
            pieces, ended, attempts = LogPieces(call_id), False, 0
            while True:
                # What a killed container said is in no file: only the stream has it all, and is waited for.
                for piece in pieces.arrived(LOG_REST_S if attempts > 1 else LOG_SILENCE_S):
                    self._started.setdefault(job.id, piece.at)
                    if piece.end > sent:
                        yield piece.after(sent)
                        sent = piece.end
                if ended:
                    break
                # A job that has ended is known by its result sooner than by its log.
                ended = end_of_call(call_id) is not None
                if ended:
                    attempts = len(self._attempts(job))
                elif pieces.over:
                    time.sleep(LOG_SILENCE_S)
                    pieces = LogPieces(call_id)
            if attempts <= 1:
                with contextlib.suppress(FileNotFoundError):
                    yield from self._read(self._path(job, "log"), sent)

    # --- its results

    def reports(self, job: JobSpec, offset: int) -> list[str]:
        """What the last commit of the Volume holds of them."""
        with translated():
            try:
                text = b"".join(self._read(self._path(job, "output/reports.jsonl"), offset, offset + REPORTS_BYTES))
            except FileNotFoundError:
                return []
        return text.decode("latin-1").split("\n")[:-1]

    def manifest(self, job: JobSpec) -> Manifest:
        with translated():
            rows = self._json(job, "manifest.json", messages.MANIFEST_BYTES)
            status = self._json(job, "status.json")
            ended = status is not None and messages.job_status(status)["state"] == "ended"
            if rows is not None and (ended or not self._has_result(job)):
                return messages.manifest({"rows": rows})
            return self._listed(job)

    def _listed(self, job: JobSpec) -> Manifest:
        """For a job whose container was killed: its last manifest may be older than the files."""
        found, top = Manifest(), self._path(job, "output")
        if not self._exists(top):
            return found
        left = self.settings.max_results_gb * 1e9
        for entry in self._volume.iterdir(top, recursive=True):
            relative = entry.path.lstrip("/").removeprefix(f"{top}/")
            if entry.type.name == "DIRECTORY":
                continue
            if entry.type.name != "FILE":
                found.refused.append(Refused(relative, f"it is no file ({entry.type.name.lower()})"))
                continue
            if entry.size > left or len(found.files) >= MAX_ROWS:
                found.refused.append(Refused(relative, "the results are larger than provider.max_results_gb: raise it"))
                continue
            hashed, size = sha256(), 0
            for chunk in self._read(entry.path, 0, int(left)):
                hashed.update(chunk)
                size += len(chunk)
            left -= size
            found.files.append(RemoteFile(relative, size, hashed.hexdigest()))
        return found

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes that the manifest described: of the file itself, unless it was replaced since."""
        with translated():
            # Under the first name while the job runs, and under the second for good.
            for path in (f"held/{file.digest}", f"output/{file.path}"):
                # A file that is replaced under our hands: the next look finds it again.
                with contextlib.suppress(FileNotFoundError):
                    yield from self._read(self._path(job, path), offset, file.size)
                    return

    def read_many(
        self, job: JobSpec, files: Sequence[tuple[RemoteFile, int]]
    ) -> Iterator[tuple[RemoteFile, bytes | None]]:
        """Several at a time: Modal hands out one file per request."""
        from concurrent.futures import ThreadPoolExecutor

        def content(wanted: tuple[RemoteFile, int]) -> bytes:
            return b"".join(self.read(job, *wanted))

        with ThreadPoolExecutor(READERS) as pool:
            yield from zip((file for file, _ in files), pool.map(content, files), strict=True)

    def discard(self, job: JobSpec) -> None:
        if not self.settings.keep_remote:
            with translated(), contextlib.suppress(FileNotFoundError):
                self._volume.remove_file(f"jobs/{job.id}", recursive=True)

    def cut(self) -> None:
        """Nothing to do: what Modal is asked has its own time limit."""

    def close(self) -> None:
        self.leave()

    # --- how it asks

    def _adopted(self, job: JobSpec) -> str | None:
        """A call that a dead client made and did not come to write down: its container did."""
        if self.function is not None or self.handles.get(job.id):
            return None
        attempts = self._attempts(job)
        if not attempts:
            return None
        self.handles.put(job.id, f"{self.instance}/{attempts[-1].call}")
        return self._call_id(job)

    def _call_id(self, job: JobSpec) -> str | None:
        """The call of this job in this application."""
        application, _, call = (self.handles.get(job.id) or "").partition("/")
        return call if application == self.instance else None

    def _has_result(self, job: JobSpec) -> bool:
        return bool(self.job_status(job)["state"] != "running")

    def _running_s(self, job: JobSpec) -> float:
        """Since its first line of output: what was in the queue before is not billed."""
        started = self._started.get(job.id)
        return 0.0 if started is None else max(time.time() - started, 0.0)

    def _application_lives(self) -> bool:
        from launchers.providers.modal.provider import live_applications

        with translated():
            return any(app.app_id == self.instance for app in live_applications(self.settings.environment))

    @functools.cached_property
    def _volume(self) -> Any:
        """One handle: each new one asks for the Volume's id again."""
        import modal

        return modal.Volume.from_name(
            self.settings.volume, environment_name=self.settings.environment, create_if_missing=True, version=2
        )

    def _path(self, job: JobSpec, name: str) -> str:
        return f"jobs/{job.id}/{name}"

    def _exists(self, path: str) -> bool:
        import modal

        try:
            next(iter(self._volume.iterdir(path, recursive=False)), None)
        except (FileNotFoundError, modal.exception.NotFoundError):
            return False
        return True

    def _read(self, path: str, offset: int, end: int | None = None) -> Iterator[bytes]:
        """A file of the Volume from an offset on, never more of it in memory than a block.

        Raises:
            FileNotFoundError.
        """
        position = 0
        with contextlib.closing(self._volume.read_file(path)) as blocks:
            for block in blocks:
                wanted = block[max(offset - position, 0) : None if end is None else max(end - position, 0)]
                position += len(block)
                if wanted:
                    yield wanted
                if end is not None and position >= end:
                    return

    def _attempts(self, job: JobSpec) -> list[Attempt]:
        written = self._json(job, "attempts.json")
        return [] if written is None else messages.attempts(written)

    def _json(self, job: JobSpec, name: str, longest: int = messages.LINE_BYTES) -> Any:
        """What a container wrote down, unchecked; None when it is not there or not JSON."""
        try:
            with translated():
                content = b"".join(self._read(self._path(job, name), 0, longest + 1))
            if len(content) > longest:
                raise BadMachine(f"{name} of job {job.id} at Modal is larger than {longest / 1e6:.0f} MB")
            return json.loads(content)
        except (FileNotFoundError, ValueError, RecursionError):
            return None

"""`Host` without a machine: a job is a call of the application's Function, its folder lies on a Volume."""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from launchers.capsule import Capsule
from launchers.command import arguments_of, environment_of
from launchers.errors import BadMachine, RetryLater, Unreachable
from launchers.host import RemoteFile
from launchers.job import JobPaths, JobSpec
from launchers.providers.base import JobHandles
from launchers.providers.modal import prices, worker
from launchers.providers.modal.logs import LogPieces
from launchers.providers.modal.words import RESULTS, translated
from launchers.settings import ModalSettings

TREE = "tree"
"""Folder beside this package in the container that holds the working tree."""
CLEAN_UP_S = 15.0
"""Beyond the grace: how long a cancelled container may take to put its last state on the Volume."""
QUEUED_CLEAN_UP_S = 2.0
LOG_SILENCE_S = 0.3
LOG_REST_S = 5.0
MARGIN_S = 30.0
"""An attempt ends itself this much before Modal would."""


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

    # --- what a machine needs and a container brings

    def probe(self) -> dict[str, Any]:
        return {}

    def lease(self, terms: dict[str, Any]) -> None:
        """Every call has its timeout, and the worker its hours."""

    def ship(self, capsule: Capsule) -> int:
        """It came with the application."""
        return 0

    def prepare(self, capsule: Capsule, python: str | None, apt: Sequence[str] = ()) -> str:
        """The image has it all."""
        return python or ""

    # --- a job

    def restore(self, job: JobSpec, folder: Path, files: list[RemoteFile]) -> None:
        """What the Volume holds is never older than what was fetched from it; only an emptied one gets it back."""
        with translated():
            if self._exists(self._path(job, "output")):
                return
            with self._volume.batch_upload(force=True) as batch:
                for file in files:
                    batch.put_file(str(folder / file.path), f"/{self._path(job, 'output')}/{file.path}")

    def start(self, job: JobSpec, python: str, capsule: Capsule, secrets: dict[str, str], grace: float) -> None:
        """Secrets went to Modal with the application: a payload may be read by whoever sees the call."""
        if self.function is None:
            raise BadMachine("this client did not make the application, so that it can't start jobs in it")
        if self._call_id(job) is not None:
            return
        settings, paths = self.settings, JobPaths(PurePosixPath(self.settings.mount_path), job.id)
        max_seconds, cap = self._cap(job)
        slice_s = settings.timeout_s - min(MARGIN_S + settings.grace_s, settings.timeout_s / 2)
        payload = {
            "job": job.id, "application": self.instance, "root": settings.mount_path,
            "volume": settings.volume, "cache_volume": settings.cache_volume,
            "directory": f"{TREE}/{capsule.directory}", "python": settings.python,
            # Relative: where the tree lies is the container's knowledge.
            "paths": environment_of(PurePosixPath(TREE)),
            "arguments": arguments_of(job, paths.output), "grace": min(grace, settings.grace_s),
            "commit_every": settings.sync_every_s, "max_seconds": max_seconds, "cap": cap, "slice_seconds": slice_s,
        }  # fmt: skip
        with translated():
            call = self.function.spawn(payload)
        self.handles.put(job.id, f"{self.instance}/{call.object_id}")

    def _cap(self, job: JobSpec) -> tuple[float, str]:
        """Seconds after which the container ends the job by itself, and why: it may have no client that looks at the meter."""
        hours, cost = float(job.settings["max_hours"]), job.settings["max_cost"]
        price = prices.hourly(self.settings.gpu, self.settings.num_gpus, self.settings.region)
        if cost is not None and cost / price < hours:
            return cost / price * 3600, worker.MAX_COST
        return hours * 3600, worker.MAX_HOURS

    def job_status(self, job: JobSpec) -> dict[str, Any]:
        call_id = self._call_id(job) or self._adopted(job)
        if call_id is None:
            return {"state": "absent", "billed_s": 0.0}
        import modal

        try:
            with translated():
                status = dict(modal.FunctionCall.from_id(call_id).get(timeout=0))
            if status["state"] != "superseded":
                return status
            self.handles.put(job.id, f"{self.instance}/{status['call']}")
            return {"state": "running", "billed_s": 0.0}
        except TimeoutError:  # the builtin one: no result yet
            return {"state": "running", "billed_s": self._running_s(job), "queued": job.id not in self._started}
        except (SystemExit, KeyboardInterrupt) as error:
            # From the container: this is never the main thread.
            return self._without_result(job, error)
        except BadMachine as error:
            if type(error.__cause__).__name__ not in RESULTS:
                raise Unreachable(f"Modal's answer makes no sense ({error})") from error
            return self._without_result(job, error)

    def _without_result(self, job: JobSpec, error: BaseException) -> dict[str, Any]:
        """A call that was cancelled, timed out, or lost its container once too often; the Volume knows more."""
        reason, asked = self._stopping.get(job.id, (None, 0.0))
        written = self._json(job, "status.json") or {}
        attempts = self._json(job, "attempts.json") or []
        status = written | {"billed_s": sum(attempt["seconds"] for attempt in attempts)}
        saved = written.get("state") == "ended" and written.get("stopped") not in (None, worker.PREEMPTED)
        value = self._json(job, "return.json") or {}
        if written.get("state") == "ended" and "Expired" in type(error.__cause__).__name__:
            return status | {"value": value.get("value")}
        if saved:
            stopped = reason or written["stopped"]
            over = worker.MAX_HOURS if stopped == worker.SLICE_OVER else stopped
            return status | {"stopped": over, "value": value.get("value")}
        if reason is not None:
            started = job.id in self._started or bool(written)
            patience = self.settings.grace_s + CLEAN_UP_S if started else QUEUED_CLEAN_UP_S
            if time.time() - asked < patience:
                return status | {"state": "running"}
            return status | {"state": "ended", "stopped": reason}
        if isinstance(error.__cause__, TimeoutError) or "Timeout" in type(error.__cause__).__name__:
            return status | {"state": "ended", "stopped": worker.MAX_HOURS}
        if type(error.__cause__).__name__ == "InternalFailure" or not self._application_lives():
            return status | {"state": "lost"}
        code = 137 if not str(error.__cause__ or "").strip() or "exit" in str(error).lower() else 1
        return status | {"state": "ended", "exit_code": code, "why": str(error)}

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
                ended = self._has_ended(call_id)
                if ended:
                    attempts = len(self._json(job, "attempts.json") or ())
                elif pieces.over:
                    time.sleep(LOG_SILENCE_S)
                    pieces = LogPieces(call_id)
            kept = self._bytes(self._path(job, "log")) or b"" if attempts <= 1 else b""
            if len(kept) > sent:
                yield kept[sent:]

    def _has_ended(self, call_id: str) -> bool:
        """Whether the call has a result, good or bad."""
        import modal

        try:
            with translated():
                modal.FunctionCall.from_id(call_id).get(timeout=0)
        except TimeoutError:
            return False
        except (SystemExit, KeyboardInterrupt):
            return True
        except BadMachine as error:
            return type(error.__cause__).__name__ in RESULTS
        return True

    # --- its results

    def manifest(self, job: JobSpec) -> list[RemoteFile]:
        with translated():
            rows = self._json(job, "manifest.json")
            status = self._json(job, "status.json") or {}
            if rows is not None and (status.get("state") == "ended" or not self._has_result(job)):
                return [RemoteFile(r["path"], r["size"], r["digest"], r["kind"] == "file") for r in rows]
            return self._listed(job)

    def _listed(self, job: JobSpec) -> list[RemoteFile]:
        """For a job whose container was killed: its last manifest may be older than the files."""
        top = self._path(job, "output")
        if not self._exists(top):
            return []
        rows = []
        for entry in self._volume.iterdir(top, recursive=True):
            if entry.type.name == "FILE":
                content = self._bytes(entry.path) or b""
                relative = PurePosixPath(entry.path.lstrip("/")).relative_to(top).as_posix()
                rows.append(RemoteFile(relative, len(content), sha256(content).hexdigest()))
        return rows

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        """The bytes that the manifest described: of the file itself, unless it was replaced since."""
        with translated():
            # Under the first name while the job runs, and under the second for good.
            for path in (f"held/{file.digest}", f"output/{file.path}"):
                position = 0
                try:
                    for chunk in self._volume.read_file(self._path(job, path)):
                        wanted = chunk[max(offset - position, 0) : max(file.size - position, 0)]
                        position += len(chunk)
                        if wanted:
                            yield wanted
                    return
                except FileNotFoundError:
                    if position:
                        return  # replaced under our hands: the next look finds it again

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
        attempts = self._json(job, "attempts.json")
        if not attempts:
            return None
        self.handles.put(job.id, f"{self.instance}/{attempts[-1]['call']}")
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

    def _bytes(self, path: str) -> bytes | None:
        with tempfile.SpooledTemporaryFile(max_size=1 << 26) as file:
            try:
                for chunk in self._volume.read_file(path):
                    file.write(chunk)
            except FileNotFoundError:
                return None
            file.seek(0)
            return file.read()

    def _json(self, job: JobSpec, name: str) -> Any:
        with translated():
            content = self._bytes(self._path(job, name))
        try:
            return None if content is None else json.loads(content)
        except ValueError:
            return None

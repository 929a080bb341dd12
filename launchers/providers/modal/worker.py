"""What runs in the container: a supervisor of one job, which is a child process, as on any rented machine.

Light on purpose: Modal imports this module in every container before anything is logged. The programs of `launchers/remote`
do the work, on a folder of the Volume:

    ROOT/jobs/JOB/output/           the job's own folder; its checkpoints are what a next container goes on from
    ROOT/jobs/JOB/manifest.json     the files and digests of the last commit
    ROOT/jobs/JOB/attempts.json     each container that had the job, and for how long
    ROOT/jobs/JOB/{status,return}.json, log   as the supervisor writes them
"""

from __future__ import annotations

import importlib
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

TICK_S = 0.01
"""Between two looks at the job's log: what a line waits here, it waits on the console."""
WATCH_S = 0.1
FIRST_COMMIT_S = 1.0
COMMIT_TRIES = 3
PREEMPTED = "the container was taken away"
CANCELLED = "cancelled"
MAX_HOURS = "provider.max_hours is reached"
MAX_COST = "provider.max_cost is reached"
SLICE_OVER = "the attempt's time is over"


class WorkerError(RuntimeError):
    """The supervision failed, not the job; in words, since the client may not know the class of what went wrong."""


class AttemptOver(RuntimeError):
    """Modal allows 24 h in one piece: the job saved its state, and the next attempt goes on from there."""


def run_job(payload: dict[str, Any]) -> dict[str, Any]:
    """Run a job, from its newest checkpoint if there is one, and return what became of it.

    A job that ends by itself, well or badly, is a result. Only what another container can mend is raised: then Modal
    starts one with the same payload.
    """
    import modal

    try:
        volumes = [modal.Volume.from_name(name) for name in (payload["volume"], payload["cache_volume"])]
        return _Attempt(payload, volumes, modal.current_function_call_id() or "").run()
    except AttemptOver:
        raise
    except Exception as error:
        raise WorkerError(f"{type(error).__name__}: {error}") from None


def _remote(name: str) -> Any:
    """A program of a rented machine; they import one another as a folder, not as a package."""
    folder = str(Path(__file__).resolve().parents[2] / "remote")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


class _Attempt:
    """One container's part of a job."""

    def __init__(self, payload: dict[str, Any], volumes: list[Any], call: str) -> None:
        self.files, self.results, self.supervisor = _remote("files"), _remote("results"), _remote("supervisor")
        self.payload, self.root, self.job = payload, payload["root"], payload["job"]
        self.outputs, self.cache = volumes
        self.folder = Path(self.files.job_folder(self.root, self.job))
        self.began = time.time()
        self.attempts: list[dict[str, Any]] = self.files.read_json(self.folder / "attempts.json", [])
        self.before = sum(attempt["seconds"] for attempt in self.attempts)
        before = self.attempts[-1] if self.attempts else None
        same = before is not None and before["application"] == payload["application"]
        self.owner = before["call"] if before is not None and same and before["call"] != call else None
        """Another call of the same application that has this job: the answer to the client's first request was lost."""
        self.again = same and self.owner is None
        """An earlier container of this very call had the job."""
        task = os.environ.get("MODAL_TASK_ID", "")
        self.attempts.append({
            "application": payload["application"], "call": call, "task": task, "started": self.began, "seconds": 0.0,
        })  # fmt: skip
        self.held: list[str] = []
        self.ended = threading.Event()

    def run(self) -> dict[str, Any]:
        if self.owner is not None:
            return {"state": "superseded", "call": self.owner}
        if self.again and self._has_ended():
            # Its last commit arrived, and the answer to it did not: there is nothing left to do.
            self._publish_last()
            return self._result()
        supervisor = self.supervisor
        supervisor.make_ready(str(self.folder))
        self.files.write_json(self.folder / "attempts.json", self.attempts)
        log = self.folder / "log"
        log.touch()
        shown = _Tail(log, sys.stdout.buffer)
        child = threading.Thread(target=supervisor.supervise, args=(str(self.folder), self._request()), daemon=True)
        watch = threading.Thread(target=self._watch, daemon=True)
        try:
            child.start()
            # Whose job this is must be known outside as soon as can be: another call of it may start. The job need not wait
            # for that; should it fail, another container begins anew.
            self.outputs.commit()
            watch.start()
            while child.is_alive():
                shown.copy()
                time.sleep(TICK_S)
        except BaseException as error:
            # SIGINT: Modal takes the container away. InputCancellation: the user ends the job. Both must pass on: a job that
            # swallows them would count as finished.
            _ignore_interrupts()
            self._stop(CANCELLED if "Cancellation" in type(error).__name__ else PREEMPTED)
            child.join(self.payload["grace"] + 5)
            raise
        finally:
            self.ended.set()
            shown.copy()
            if watch.is_alive():
                # A commit that it is about to make must not come after the last one, which leaves less behind.
                watch.join()
            self._publish_last()
        result = self._result()
        if result.get("stopped") == SLICE_OVER:
            raise AttemptOver(f"Job {self.job} goes on in the next attempt.")
        return result

    def _has_ended(self) -> bool:
        """By itself, well or badly; one that was stopped goes on."""
        status = self.files.status_of(self.root, self.job)
        return status["state"] == "ended" and not status.get("stopped")

    def _result(self) -> dict[str, Any]:
        status: dict[str, Any] = vars(_remote("acts").job_status(self.root, self.job))
        return status | {"billed_s": self.before + time.time() - self.began}

    def _request(self) -> Any:
        payload = self.payload
        # The launcher put the working tree beside its own package.
        top = Path(__file__).resolve().parents[3]
        command = [payload["python"] or sys.executable, *payload["arguments"]]
        environment = {name: str(top / value) if "/" in value else value for name, value in payload["paths"].items()}
        environment |= payload["variables"]
        directory = str(top / payload["directory"])
        return _remote("messages").StartJob(self.job, command, directory, environment, payload["grace"])

    def _watch(self) -> None:
        """Commit now and then, and end the attempt in good order before Modal ends it in bad."""
        # Not at once: the job's own start needs the processor.
        payload, next_commit = self.payload, self.began + min(FIRST_COMMIT_S, self.payload["commit_every"])
        while not self.ended.wait(WATCH_S):
            now = time.time()
            if self.before + now - self.began >= payload["max_seconds"]:
                self._stop(payload["cap"])
            elif now - self.began >= payload["slice_seconds"]:
                self._stop(SLICE_OVER)
            if now >= next_commit:
                try:
                    self._publish()
                except Exception as error:
                    # The next one may succeed; until then what was committed before is what a next attempt goes on from.
                    print(f"a commit of the results failed: {error!r}", file=sys.stderr, flush=True)
                next_commit = time.time() + payload["commit_every"]

    def _stop(self, reason: str) -> None:
        if not (self.folder / "stop.json").exists():
            self.supervisor.stop_job(self.root, self.job, reason)

    def _publish_last(self) -> None:
        for left in reversed(range(COMMIT_TRIES)):
            try:
                self._publish(last=self._has_ended())
                return self.cache.commit()
            except Exception:
                if not left:
                    raise
                time.sleep(1)

    def _publish(self, last: bool = False) -> None:
        """Write down what there is, and make it visible outside. Never by two threads at once: the watch ends before the last one."""
        self.attempts[-1]["seconds"] = time.time() - self.began
        self.files.write_json(self.folder / "attempts.json", self.attempts)
        # Who reads the manifest of the last commit must still find its files in this one.
        rows = self.results.manifest(self.root, self.job, self.held)
        self.held = [row.digest for row in rows if row.kind == "file"]
        self.files.write_json(self.folder / "manifest.json", rows)
        if last:  # nothing changes any more: one copy of each file will do
            for name in ("held", "digests.json", "heartbeat"):
                _remove(self.folder / name)
        self.outputs.commit()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


class _Tail:
    """Copies what a growing file has got since the last look: the container's output is what Modal streams."""

    def __init__(self, path: Path, out: BinaryIO) -> None:
        self._file = path.open("rb")
        self._file.seek(0, os.SEEK_END)
        self._out = out

    def copy(self) -> None:
        chunk = self._file.read()
        if chunk:
            self._out.write(chunk)
            self._out.flush()


def _ignore_interrupts() -> None:
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)

"""`Host` for a queue: the agent that rented machines have answers on the login node, and Slurm starts the job on a node of its choice."""

from __future__ import annotations

import base64
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from launchers.command import arguments_of, environment_of
from launchers.errors import MendInput, RemoteError
from launchers.host import JobStatus, Probe
from launchers.job import JobSpec
from launchers.lifecycle.deadlines import CANCELLED, MAX_HOURS
from launchers.providers.base import JobHandles
from launchers.providers.slurm.cluster import Cluster, Queued, QueuedJob, reason_of
from launchers.providers.slurm.settings import SlurmSettings
from launchers.providers.slurm.shell import Shell
from launchers.providers.slurm.submission import ENDLESS, executor_of, minutes_of
from launchers.snapshot import Snapshot
from launchers.transport.host import SshHost

LATE_S = 10.0
"""What a job wrote last may show on the login node so much later than the end that Slurm tells."""
SETUP_S = 1800.0
_UNPACK = """
import base64, json, os, sys
folder = sys.argv[1]
os.makedirs(folder, mode=0o700, exist_ok=True)
for name, text in json.load(sys.stdin).items():
    partial = os.path.join(folder, "%s.%d" % (name, os.getpid()))
    with open(partial, "wb") as file:
        file.write(base64.b64decode(text))
    os.replace(partial, os.path.join(folder, name))
"""


class SlurmHost(SshHost):
    """The jobs of one launch in the queue of a cluster."""

    def __init__(self, shell: Shell, instance: str, settings: SlurmSettings, handles: JobHandles) -> None:
        super().__init__(shell, settings.remote_root, SETUP_S)
        self._shell, self._cluster = shell, Cluster(shell)
        self._instance, self._settings, self._handles = instance, settings, handles
        self._over_since: dict[str, float] = {}
        self._stopping: dict[str, str] = {}

    def probe(self) -> Probe:
        """The node is not known before the job is on it."""
        return Probe((), 0.0, 0.0, "")

    def lease(self, terms: dict[str, Any]) -> None:
        """Slurm has its time limit."""

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        """On this cluster the Python that runs here; behind a login node one is made, or named in provider.python."""
        if self._settings.login is None:
            return python or sys.executable
        return super().prepare(snapshot, python, (), provided)

    def start(
        self,
        job: JobSpec,
        python: str,
        snapshot: Snapshot,
        secrets: dict[str, str],
        facts: dict[str, str],
        grace: float,
    ) -> None:
        if self._in_queue(job) is not None:
            return
        settings, directory = self._settings, self._directory(snapshot)
        minutes = minutes_of(settings, self._cluster.limit_minutes(settings.partition))
        folder = self._programs()
        request = {
            "folder": f"{self._root}/submitted/%j", "requeues": ENDLESS, "secrets": secrets,
            "executor": executor_of(settings, minutes, self._instance, job.id),
            "job": {
                "agent": self._agent.folder, "root": str(self._root), "job": job.id,
                "command": [*_container(settings), python, *arguments_of(job, self._paths(job).output)],
                "directory": str(directory), "environment": environment_of(self._tree(snapshot)) | facts,
                "grace": min(grace, settings.signal_delay_s), "seconds": settings.max_hours * 3600, "over": MAX_HOURS,
            },
        }  # fmt: skip
        try:
            said = self._shell.run(f"{shlex.quote(python)} {folder}/submit.py", iter([json.dumps(request).encode()]))
        except RemoteError as error:
            raise MendInput(f"Slurm did not take job {job.id}: {_last_line(str(error))}.") from None
        words = said.decode(errors="replace").split()
        if len(words) < 2 or words[-2] != "submitted":
            raise MendInput(f"Slurm did not take job {job.id}: {_last_line(' '.join(words)) or 'no reason given'}.")
        self._handles.put(job.id, f"{self._instance}/{words[-1]}")

    def job_status(self, job: JobSpec) -> JobStatus:
        """What the supervisor wrote, where it wrote an end; else what Slurm says."""
        queued = self._in_queue(job)
        status = super().job_status(job)
        billed = _seconds(status)
        if queued is None and status["state"] != "ended" and self._id_of(job) is None:
            return {"state": "absent", "billed_s": 0.0}
        told: JobStatus = {**status, "billed_s": billed}
        if status["state"] == "ended":
            return told
        if queued is not None and queued.state in (Queued.waiting, Queued.running):
            self._over_since.pop(job.id, None)
            return {**told, "state": "running", "queued": queued.state is Queued.waiting}
        never_started = status["state"] == "absent"
        since = self._over_since.setdefault(job.id, time.monotonic())
        if not never_started and time.monotonic() - since < LATE_S:
            return {**told, "state": "running"}
        end = self._end_without_word(job, queued, told)
        self._write(job, end)
        return end

    def _end_without_word(self, job: JobSpec, queued: QueuedJob | None, status: JobStatus) -> JobStatus:
        """Of a job that Slurm has ended without a word of the supervisor."""
        reason = self._stopping.get(job.id)
        if reason is not None or (queued is not None and queued.state is Queued.cancelled):
            return {**status, "state": "ended", "stopped": reason or CANCELLED}
        word = queued.word if queued is not None else ""
        if word == "OUT_OF_MEMORY":
            return {
                **status,
                "state": "ended",
                "exit_code": 137,
                "why": "Slurm ended it: out of memory; raise provider.mem_gb",
            }
        return {**status, "state": "lost"}

    def _write(self, job: JobSpec, end: JobStatus) -> None:
        """Put an end into the job's folder, so that whoever follows its log there sees it too."""
        names = ("state", "exit_code", "stopped", "started", "ended", "spent")
        text = json.dumps({name: end[name] for name in names if name in end})  # type: ignore[literal-required]
        folder = shlex.quote(str(self._paths(job).folder))
        command = f"mkdir -p {folder} && cat > {folder}/end.json && mv {folder}/end.json {folder}/status.json"
        self._shell.run(command, iter([text.encode()]))

    def stop(self, job: JobSpec, reason: str) -> None:
        """A job on a node is asked to save; one that still waits leaves the queue."""
        queued = self._in_queue(job)
        self._stopping[job.id] = reason
        if super().job_status(job)["state"] == "running" and (queued is None or queued.state is Queued.running):
            super().stop(job, reason)
        elif queued is not None:
            self._cluster.cancel(queued.id)

    def discard(self, job: JobSpec) -> None:
        """The results are here: a shared disk does not end with the job."""
        if not self._settings.keep_remote:
            self._shell.run(f"rm -rf {shlex.quote(str(self._paths(job).folder))}")

    def _id_of(self, job: JobSpec) -> str | None:
        instance, _, number = (self._handles.get(job.id) or "").partition("/")
        return number if instance == self._instance and number else None

    def _in_queue(self, job: JobSpec) -> QueuedJob | None:
        """The row of a job; found by its comment where a client died before it wrote the number down."""
        rows, number = self._cluster.jobs(self._instance), self._id_of(job)
        if number is not None:
            return next((row for row in rows if row.id == number), None)
        alive = (row for row in rows if row.comment == job.id and row.state in (Queued.waiting, Queued.running))
        row = next(alive, None)
        if row is not None:
            self._handles.put(job.id, f"{self._instance}/{row.id}")
        return row

    def _programs(self) -> str:
        """Folder on the cluster that holds what submits and runs a job."""
        here = Path(__file__).parent / "on_cluster"
        files = {path.name: base64.b64encode(path.read_bytes()).decode() for path in sorted(here.glob("*.py"))}
        archive = json.dumps(files).encode()
        folder = f"{self._root}/slurm/{sha256(archive).hexdigest()[:12]}"
        self._shell.run(shlex.join(["python3", "-c", _UNPACK, folder]), iter([archive]))
        return folder


def _container(settings: SlurmSettings) -> list[str]:
    if settings.container is None:
        return []
    return ["apptainer", "exec", *(["--nv"] if settings.gpu else []), settings.container]


def _seconds(status: JobStatus) -> float:
    started = status.get("started")
    if started is None:
        return 0.0
    return float(status.get("spent", 0.0)) + max(float(status.get("ended") or time.time()) - float(started), 0.0)


def _last_line(text: str) -> str:
    """The complaint at the end of a traceback, without the names of its exception."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return reason_of(lines[-1]) if lines else ""

"""A machine with faults, on `launchers.host.Host`: its jobs take steps in virtual time and can be cut off at any call."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from launchers.errors import BadMachine, SetupFailed, Unreachable
from launchers.host import Card, JobStatus, Manifest, Probe, RemoteFile, RemoteLink
from launchers.job import JobSpec
from launchers.snapshot import Snapshot
from launchers.testing.jobs import FakeJob, Script, checkpoint_step
from launchers.testing.provider import LOGIN_S, FakeMachine, FakeProvider

CALL_S = 0.02
SLOW_S = 30.0
SETUP_S = 3.0


class FakeHost:
    """One connection to one machine of a `FakeProvider`."""

    def __init__(self, provider: FakeProvider, machine: FakeMachine) -> None:
        self._provider, self.machine = provider, machine
        self._clock, self._faults = provider.clock, provider.faults
        self._is_cut = threading.Event()

    # --- the machine

    def probe(self) -> Probe:
        self._enter("probe")
        return Probe((Card("NVIDIA GeForce RTX 4090", 24564.0, "570.86.15"),), 200.0, 1024.0, "3.11.4")

    def lease(self, terms: dict[str, Any]) -> None:
        self._enter("lease")
        self.machine.lease = terms
        self.machine.lease_ends = self._clock.now() + terms["seconds"]

    def upload(self, snapshot: Snapshot) -> int:
        kind = self._enter("upload")
        sent = 0 if snapshot.digest in self.machine.tree else 1000
        self.machine.tree.add(snapshot.digest)
        self._leave(kind)
        return sent

    def prepare(
        self, snapshot: Snapshot, python: str | None, apt: Sequence[str] = (), provided: Mapping[str, Sequence[str]] | None = None
    ) -> str:  # fmt: skip
        kind = self._enter("prepare")
        self._pass(SETUP_S)
        if kind == "setup":
            raise SetupFailed("no package of that name")
        return "/opt/python"

    def restore(self, job: JobSpec, folder: Path, entries: Sequence[RemoteFile | RemoteLink]) -> None:
        kind = self._enter("restore")
        disk = self.machine.disks.setdefault(job.id, {})
        disk.update({e.path: (folder / e.path).read_bytes() for e in entries if isinstance(e, RemoteFile)})
        self._leave(kind)

    # --- a job

    def start(
        self, job: JobSpec, python: str, snapshot: Snapshot, secrets: dict[str, str], facts: dict[str, str], grace: float
    ) -> None:  # fmt: skip
        kind = self._enter("start")
        now, there = self._clock.now(), self.machine.jobs.get(job.id)
        if there is None or there.was_killed(now):
            disk = self.machine.disks.setdefault(job.id, {})
            script = self._provider.scripts.get(job.id, Script())
            self.machine.jobs[job.id] = FakeJob(script, now, checkpoint_step(disk), grace, dict(disk))
            self.machine.started.append((job.id, now, checkpoint_step(disk)))
        self._leave(kind)

    def job_status(self, job: JobSpec) -> JobStatus:
        kind = self._enter("job_status")
        now, run = self._clock.now(), self.machine.jobs.get(job.id)
        if run is None:
            return self._billed({"state": "absent"}, 0.0)
        if kind == "supervisor dies":
            self.machine.disks[job.id] = run.files(now)
            run.kill(now)
        billed = min(now, run.ended_at()) - run.started
        log_size = len(run.log(now))
        if run.is_running(now):
            return self._billed({"state": "running", "log_size": log_size}, billed)
        if run.was_killed(now):
            return self._billed({"state": "lost", "log_size": log_size}, billed)
        ended: JobStatus = {
            "state": "ended", "exit_code": run.exit_code(), "log_size": log_size, "value": run.step(now), "disk_free_gb": 100.0,
        }  # fmt: skip
        if run.asked is not None and run.ended_at() < run.natural_end():
            ended["stopped"] = run.reason
        return self._billed(ended, billed)

    def _billed(self, status: JobStatus, seconds: float) -> JobStatus:
        if not self.machine.offer.charging.while_idle:
            status["billed_s"] = seconds
        return status

    def stop(self, job: JobSpec, reason: str) -> None:
        kind = self._enter("stop")
        if job.id in self.machine.jobs:
            self.machine.jobs[job.id].ask(self._clock.now(), reason)
        self._leave(kind)

    def manifest(self, job: JobSpec) -> Manifest:
        self._enter("manifest")
        rows = [RemoteFile(path, len(content), _digest(content)) for path, content in self._files(job).items()]
        return Manifest(sorted(rows, key=lambda row: row.path))

    def read(self, job: JobSpec, file: RemoteFile, offset: int) -> Iterator[bytes]:
        kind = self._enter("read")
        content = self._files(job).get(file.path, b"")[offset:]
        if kind == "damaged":
            content = b"?" * len(content)
        yield content[: len(content) // 2]
        if kind == "breaks":
            raise Unreachable("the connection broke in the middle of a file")
        yield content[len(content) // 2 :]

    def follow(self, job: JobSpec, offset: int) -> Iterator[bytes]:
        kind = self._enter("follow")
        sent = offset
        while True:
            self._check()
            now, run = self._clock.now(), self.machine.jobs.get(job.id)
            if run is None:
                raise Unreachable("the job has no log yet")
            text = run.log(now)
            if len(text) > sent:
                yield text[sent:]
                sent = len(text)
            if kind == "breaks":
                raise Unreachable("the connection broke")
            if not run.is_running(now):
                return
            self._pass(max(min(run.script.step_s, run.ended_at() - now), CALL_S))

    def reports(self, job: JobSpec, offset: int) -> list[str]:
        self._enter("reports")
        run = self.machine.jobs.get(job.id)
        steps = range(run.first + 1, run.step(self._clock.now()) + 1) if run is not None else ()
        text = "".join(json.dumps({"step": step, "value": 1 / step}) + "\n" for step in steps)
        return text[offset:].split("\n")[:-1]

    def discard(self, job: JobSpec) -> None:
        self._enter("discard")

    def cut(self) -> None:
        self._is_cut.set()

    def close(self) -> None:
        """Nothing to do: nothing is open."""

    # --- how it fails

    def _files(self, job: JobSpec) -> dict[str, bytes]:
        run = self.machine.jobs.get(job.id)
        return dict(self.machine.disks.get(job.id, {})) if run is None else run.files(self._clock.now())

    def _pass(self, seconds: float) -> None:
        """Time goes by, unless the connection is cut."""
        if self._clock.wait(self._is_cut, seconds):
            raise Unreachable("the connection was cut")

    def _check(self) -> None:
        now, machine = self._clock.now(), self.machine
        machine.settle(now)
        if self._is_cut.is_set():
            raise Unreachable("the connection was cut")
        if not machine.offer.charging.while_idle:
            return  # its results outlive it
        if machine.ended is not None or not machine.is_up(now) or now < machine.running_since + LOGIN_S:
            raise Unreachable("no connection")
        if now < machine.silent_until:
            raise Unreachable("no route to the host")
        machine.contact = now

    def _enter(self, verb: str) -> str | None:
        kind = self._faults.strike(verb)
        self._pass(SLOW_S if kind == "slow" else CALL_S)
        self._check()
        if kind == "unreachable":
            raise Unreachable("the connection broke")
        if kind == "bad":
            raise BadMachine("its answer makes no sense")
        return kind

    def _leave(self, kind: str | None) -> None:
        """The call was carried out; its answer may be lost."""
        if kind == "lost":
            raise Unreachable("the connection broke before the answer")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

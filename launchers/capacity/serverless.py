"""Serverless containers: an application runs all jobs of one kind at once, and only running jobs are billed.

The application is made by the first job that asks and ended by the last one that leaves. Calls and results outlive it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launchers.capacity.base import Excluded, Lease, machine_kind
from launchers.capacity.renting import rent
from launchers.errors import MendInput
from launchers.host import Host, JobStatus
from launchers.job import JobSpec
from launchers.ledger import JobRecord, MachineRecord
from launchers.lifecycle.deadlines import Phase
from launchers.lifecycle.release import release
from launchers.planning import reserve
from launchers.providers.base import JobHandles, Serverless
from launchers.settings import RentalSettings, Timing

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext
    from launchers.lifecycle.task import Task


class ServerlessCapacity:
    """A `Capacity` whose provider places, moves and restarts jobs itself: one lease, an application, for all jobs of a kind."""

    keeps_jobs = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[object, ...], Lease] = {}
        self._users: dict[str, int] = {}
        self._refused: dict[tuple[object, ...], MendInput] = {}
        self._pending: dict[tuple[object, ...], threading.Event] = {}
        """Being made, by the first job that asked."""

    def workers(self, jobs: int, machines: int) -> int:
        """All: they queue at the provider."""
        return jobs

    def kind_of(self, settings: RentalSettings) -> tuple[object, ...]:
        """Secrets go to the application and not to the job."""
        return (*machine_kind(settings), tuple(settings.pass_environment))

    def acquire(self, task: Task, excluded: Excluded) -> Lease:
        while True:
            with self._lock:
                if task.kind in self._refused:
                    raise self._refused[task.kind]
                if task.kind in self._open:
                    self._join(self._open[task.kind])
                    return self._open[task.kind]
                pending = self._pending.get(task.kind)
                if pending is None:
                    self._pending[task.kind] = threading.Event()
            if pending is None:
                self._make(task, excluded)
            else:
                task.context.clock.wait(pending)

    def _make(self, task: Task, excluded: Excluded) -> None:
        """Without the lock, which others need to leave: it takes as long as the provider does."""
        lease: Lease | None = None
        refused: MendInput | None = None
        try:
            lease = rent(task, excluded, self)
        except MendInput as error:
            refused = error
        finally:
            with self._lock:
                if lease is not None:
                    self._open[task.kind] = lease
                if refused is not None:
                    self._refused[task.kind] = refused
                self._pending.pop(task.kind).set()

    def bring_up(self, context: LaunchContext, label: str, job: str) -> Lease:
        return self._lease(context, context.ledger.machine(label))

    def set_terms(self, context: LaunchContext, label: str, job: str) -> float:
        """The application has no deadline: each job is ended by its own meter."""
        return context.settings.max_hours * 3600

    def extend(self, context: LaunchContext, lease: Lease, job: str) -> None:
        """An application takes any number of jobs as it is."""

    def recover(
        self, context: LaunchContext, record: MachineRecord, jobs: Sequence[JobRecord], excluded: Excluded
    ) -> Lease | None:
        """Whether the application still exists or not: each job's call tells what became of it."""
        if record.instance is None or not jobs:
            return None
        lease = self._lease(context, record)
        with self._lock:
            for _ in jobs:
                self._join(lease)
        return lease

    def reach(self, context: LaunchContext, record: MachineRecord | None, job: JobRecord) -> Lease:
        if record is None or record.instance is None:
            raise MendInput(
                f"Job {job.spec.id} was not started ({job.state.value}); what was downloaded is in {job.spec.folder}."
            )
        return self._lease(context, record)

    def doubt(self, context: LaunchContext, lease: Lease) -> str | None:
        """None: the provider moves its jobs itself."""
        return None

    def after_loss(
        self, context: LaunchContext, lease: Lease, job: str, excluded: Excluded, resumes: bool, blames: bool
    ) -> Lease | None:
        with self._lock:
            self._open = {
                kind: shared for kind, shared in self._open.items() if shared.record.label != lease.record.label
            }
        self.release(context, lease)
        return None

    def charge(
        self, context: LaunchContext, lease: Lease, job: JobSpec, status: JobStatus | None = None, is_alive: bool = True
    ) -> None:
        ran_s = None if status is None else status.get("billed_s")
        if ran_s is not None:
            context.ledger.charge(lease.record.label, context.clock.now(), job.id, ran_s)

    def stop_wait(self, phase: Phase, timing: Timing) -> float:
        """Nothing is billed while results are downloaded."""
        return reserve(timing)

    def detach(self, context: LaunchContext, lease: Lease) -> None:
        """The job stays a user of its application."""

    def release(self, context: LaunchContext, lease: Lease) -> None:
        label = lease.record.label
        with self._lock:
            self._users[label] = self._users.get(label, 1) - 1
            if self._users[label] > 0:
                return
        if lease.guard.over is None:
            lease.link.close()
        release(context, label)

    def close(self) -> None:
        for shared in self._open.values():
            if self._users[shared.record.label] > 0:
                shared.link.close()

    def _join(self, lease: Lease) -> None:
        self._users[lease.record.label] = self._users.get(lease.record.label, 0) + 1

    def _lease(self, context: LaunchContext, record: MachineRecord) -> Lease:
        guard = context.monitor.guard(context, record.label)
        return Lease.of_host(record, _open_host(context, record), guard, is_machine=False)


def _open_host(context: LaunchContext, machine: MachineRecord) -> Host:
    """The provider's own way to its jobs."""

    def put(job: str, handle: str) -> None:
        context.ledger.set_handle(job, handle)

    handles = JobHandles(lambda job: context.ledger.job(job).handle, put)
    assert isinstance(context.provider, Serverless)
    assert machine.instance is not None
    return context.provider.host(machine.instance, context.settings, handles)

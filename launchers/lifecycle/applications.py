"""What several jobs of a launch use at once, where a provider has no machines."""

from __future__ import annotations

import threading

from launchers.errors import MendInput
from launchers.lifecycle.machines import Excluded, Lease, acquire
from launchers.lifecycle.task import Task, forecast_of
from launchers.planning import Forecast
from launchers.providers.base import Serverless


class Applications:
    """What all jobs of a launch share at a provider without machines; with machines, each worker has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[tuple[object, ...], Lease] = {}
        self._users: dict[str, int] = {}
        self._refused: dict[tuple[object, ...], MendInput] = {}
        self._pending: dict[tuple[object, ...], threading.Event] = {}
        """Being made, by the first job that asked."""

    def find_or_acquire(self, task: Task, excluded: Excluded) -> Lease:
        """The application for this kind of job, made by the first one that asks, or a new machine."""
        context = task.context
        forecast = forecast_of(task.job, context.settings)
        if not isinstance(context.provider, Serverless):
            return acquire(context, forecast, excluded, task.job.id)
        while True:
            with self._lock:
                if task.kind in self._refused:
                    raise self._refused[task.kind]
                if task.kind in self._open:
                    shared = self._open[task.kind]
                    self._users[shared.record.label] = self._users.get(shared.record.label, 0) + 1
                    return shared
                pending = self._pending.get(task.kind)
                if pending is None:
                    self._pending[task.kind] = threading.Event()
            if pending is None:
                self._acquire(task, forecast, excluded)
            else:
                context.clock.wait(pending)

    def _acquire(self, task: Task, forecast: Forecast, excluded: Excluded) -> None:
        """Without the lock, which others need to leave: it takes as long as the provider does."""
        lease: Lease | None = None
        refused: MendInput | None = None
        try:
            lease = acquire(task.context, forecast, excluded, task.job.id, task.snapshot)
        except MendInput as error:
            refused = error
        finally:
            with self._lock:
                if lease is not None:
                    self._open[task.kind] = lease
                if refused is not None:
                    self._refused[task.kind] = refused
                self._pending.pop(task.kind).set()

    def join(self, lease: Lease) -> None:
        """Use one that exists."""
        with self._lock:
            self._users[lease.record.label] = self._users.get(lease.record.label, 0) + 1

    def leave(self, lease: Lease, lost: bool = False) -> bool:
        """Whether nobody uses it any more. A lost one is not handed out again."""
        label = lease.record.label
        with self._lock:
            self._users[label] = self._users.get(label, 1) - 1
            if lost:
                self._open = {kind: shared for kind, shared in self._open.items() if shared.record.label != label}
            return self._users[label] <= 0

    def close(self) -> None:
        """Let go of what jobs that run on still use."""
        for shared in self._open.values():
            if self._users[shared.record.label] > 0:
                shared.host.close()

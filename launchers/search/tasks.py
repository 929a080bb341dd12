"""A sweep as the scheduler sees it: tasks that are composed, packed and written to the ledger when a machine asks for one."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from launchers.search.settle import state_of

if TYPE_CHECKING:
    from launchers.dispatch import ComposedJob
    from launchers.ledger import JobRecord
    from launchers.lifecycle.task import Task
    from launchers.search.jobs import SweepJobs


class Names:
    """Names of a sweep's jobs in the ledger, where one that was paused comes back as another."""

    def __init__(self, launch: str) -> None:
        self._launch = launch
        self._starts: Counter[int] = Counter()

    def new(self, number: int) -> str:
        self._starts[number] += 1
        again = self._starts[number] - 1
        return f"{self._launch}-{number}" + (f".{again}" if again else "")


@dataclass
class SweepTasks:
    """A `TaskSource`; `make` turns a composed job into a task whose job the ledger knows."""

    jobs: SweepJobs
    make: Callable[[ComposedJob], Task]
    records: dict[int, JobRecord] = field(default_factory=dict)
    """How the jobs ended, by their numbers."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._back: deque[Task] = deque()
        self._composed: dict[str, ComposedJob] = {}

    def next(self, kind: tuple[object, ...] | None) -> Task | None:
        with self._lock:
            if self._back:
                same = next((task for task in self._back if task.kind == kind), self._back[0])
                self._back.remove(same)
                return same
            job = self.jobs.next()
            if job is None:
                return None
            task = self.make(job)
            self._composed[task.job.id] = job
            self.jobs.sweep.note_job(job.number, task.job.id)
            return task

    def put_back(self, task: Task) -> None:
        with self._lock:
            self._back.appendleft(task)

    def is_over(self) -> bool:
        with self._lock:
            return not self._back and self.jobs.is_over()

    def report(self, task: Task, step: int, value: float) -> bool:
        return self.jobs.report(self._composed[task.job.id], step, value)

    def why_stop(self, task: Task) -> str | None:
        return self.jobs.why_stop()

    def ended(self, task: Task, record: JobRecord) -> None:
        job = self._composed.pop(task.job.id, None)
        if job is None:
            return  # told before
        self.records[job.number] = record
        state = state_of(record.state)
        self.jobs.ended(job, state, record.value, cost=record.cost, seconds=record.seconds, note=record.note)

    def remaining(self) -> list[Task]:
        with self._lock:
            return list(self._back)

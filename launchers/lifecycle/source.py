"""Where a scheduler's jobs come from: a list that is known at the start, or a search that decides when a machine is free."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from launchers.ledger import JobRecord
    from launchers.lifecycle.task import Task


class TaskSource(Protocol):
    """Asked by the scheduler's threads, several at a time."""

    def next(self, kind: tuple[object, ...] | None) -> Task | None:
        """The next job, one for the same kind of machine first; None when there is none now.

        A job of a search is composed, and written to the ledger, when it is asked for.
        """

    def put_back(self, task: Task) -> None:
        """A job that lost its machine, or found none: it is the next one that is handed out."""

    def is_over(self) -> bool:
        """Whether no job will follow, whatever the running ones return."""

    def report(self, task: Task, step: int, value: float) -> bool:
        """Take a value that a running job has measured; returns whether the job should save and end."""

    def why_stop(self, task: Task) -> str | None:
        """Asked at each look at a running job: why it should save and end, if it should."""

    def ended(self, task: Task, record: JobRecord) -> None:
        """A job has ended for good."""

    def remaining(self) -> list[Task]:
        """Jobs that nobody took, at the end of a launch."""


class TaskList:
    """Jobs that are all known at the start."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._lock = threading.Lock()
        self._waiting = deque(tasks)

    def next(self, kind: tuple[object, ...] | None) -> Task | None:
        with self._lock:
            for task in self._waiting:
                if kind is None or task.kind == kind:
                    self._waiting.remove(task)
                    return task
            return self._waiting.popleft() if self._waiting else None

    def put_back(self, task: Task) -> None:
        with self._lock:
            self._waiting.appendleft(task)

    def is_over(self) -> bool:
        with self._lock:
            return not self._waiting

    def report(self, task: Task, step: int, value: float) -> bool:
        return False

    def why_stop(self, task: Task) -> str | None:
        return None

    def ended(self, task: Task, record: JobRecord) -> None:
        pass

    def remaining(self) -> list[Task]:
        with self._lock:
            return list(self._waiting)

"""Processes that reckon beside whatever this one does, started once for all the work of a split.

They import neither torch nor a model. Small work is done in this process, since a new one needs about a second to start: by a thread
while a card computes, else at the end.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

log = logging.getLogger(__name__)


@dataclass
class Task:
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    rows: int
    future: Future[Any] | None


class Workers:
    """Tasks handed over as they come up, and their results in that order.

    Args:
        count: processes; fewer than two do every task in this process.
        beside: then by a thread of its own, as for a search that waits for a card; else when a result is asked for.
    """

    def __init__(self, count: int, *, beside: bool = False) -> None:
        self.pool: Executor | None = None
        self.tasks: list[Task] = []
        if count > 1 and not multiprocessing.current_process().daemon:
            # spawned: a fork of a process in which torch runs threads may never come back
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=stay_with_parent)
        elif beside:
            self.pool = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    def submit(self, function: Callable[..., Any], *arguments: Any, rows: int) -> None:
        """Begin a task of so many rows.

        Args:
            function: of a module, and the arguments such that they can be pickled.
        """
        future = None
        if self.pool is not None:
            try:
                future = self.pool.submit(function, *arguments)
            except (OSError, RuntimeError) as error:
                self._do_without(error)
        self.tasks.append(Task(function, arguments, rows, future))

    def results(self, progress: Callable[[int, int], None] | None = None) -> Iterator[Any]:
        """What each task gave. A process that dies takes none of the work with it: it is done again here.

        Args:
            progress: called with (rows done, of how many) after each task.
        """
        done, total = 0, sum(task.rows for task in self.tasks)
        for task in self.tasks:
            yield self._result(task)
            done += task.rows
            if progress is not None:
                progress(done, total)

    def _result(self, task: Task) -> Any:
        if task.future is not None:
            try:
                return task.future.result()
            except BrokenExecutor as error:
                self._do_without(error)
        return task.function(*task.arguments)

    def _do_without(self, error: Exception) -> None:
        if self.pool is None:
            return
        reason = " ".join(str(error).split())[:160]
        log.warning(
            "The processes that score summaries ended (%s); scoring continues in this one, more slowly.", reason
        )
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.pool = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.pool is not None:
            self.pool.shutdown(wait=kind is None, cancel_futures=True)


def stay_with_parent() -> None:
    """In a worker: leave Ctrl-C to the parent, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()

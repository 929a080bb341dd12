"""Ctrl-C and SIGTERM as counts: an exception would strike anywhere, also where a machine is being destroyed."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext
    from launchers.lifecycle.deadlines import DeadlineMonitor

log = logging.getLogger("launchers")
TICK_S = 0.05
LAST_CHANCE_S = 5.0
"""After the Ctrl-C that destroys all machines, for them to be confirmed gone before one more ends this process."""


class Stops:
    """How often the user asked for the end, and the exit code of the first time."""

    def __init__(self) -> None:
        self.count = 0
        self.code: int | None = None
        self.interrupted = False
        """The first one was a Ctrl-C."""

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        self.count += 1
        if self.code is None:
            self.code, self.interrupted = 128 + signum, signum == signal.SIGINT

    def leave_if_asked(self) -> None:
        """
        Raises:
            SystemExit: a signal came; 130 for Ctrl-C, 143 for SIGTERM.
        """
        if self.code is not None:
            raise SystemExit(self.code)


@contextlib.contextmanager
def counted_stops() -> Iterator[Stops]:
    """Count signals in place of their exceptions. After one, the process is about to end, and ignores any more of them."""
    stops = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = {number: signal.signal(number, stops.note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stops
    finally:
        if stops.code is None:
            for number, handler in before.items():
                signal.signal(number, handler)
        else:
            for number in before:
                signal.signal(number, signal.SIG_IGN)


def wait_out(
    workers: list[threading.Event],
    contexts: list[LaunchContext],
    stops: Stops,
    monitor: DeadlineMonitor,
    may_leave: bool,
) -> bool:
    """Wait for the workers of a launch, while each Ctrl-C makes it shorter; false when the user did not wait to the end.

    The first asks the jobs to save (or leaves them alone, where that `may_leave` costs nothing but the jobs), the next one
    destroys their machines, and one more ends this process, though not before there was time to confirm it.
    """
    context = contexts[0]

    def done() -> bool:
        return all(worker.is_set() for worker in workers)

    def wait_for(condition: Callable[[], bool]) -> None:
        while not done() and not condition():
            context.clock.sleep(TICK_S)

    wait_for(lambda: stops.count > 0)
    if done():
        return True
    if may_leave and stops.interrupted and not _asked_twice(context, stops):
        for each in contexts:
            each.leaving.set()
        wait_for(lambda: stops.count > 1)
    if not done():
        log.warning(
            "Stopping: jobs have %.0f s to save a checkpoint, then results are downloaded and machines destroyed. "
            "What runs no job yet is destroyed now. Ctrl-C again destroys all machines at once.", context.timing.grace,
        )  # fmt: skip
        presses = stops.count
        for each in contexts:
            each.stopping.set()
        monitor.stop(context.clock.now())
        wait_for(lambda: stops.count > presses)
    if not done():
        log.warning("Destroying all machines of %s now, until they are confirmed gone.", context.launch)
        presses, end = stops.count, context.clock.now() + LAST_CHANCE_S
        monitor.hurried.set()
        wait_for(lambda: stops.count > presses and context.clock.now() >= end)
    return done()


def _asked_twice(context: LaunchContext, stops: Stops) -> bool:
    """Whether Ctrl-C comes again soon: once leaves the jobs alone, twice ends them."""
    log.warning(
        "Interrupted: the jobs run on without this client, and `python -m launchers attach %s` brings them home; "
        "Ctrl-C again within %.0f s ends them now.", context.launch, context.timing.second_interrupt,
    )  # fmt: skip
    end = context.clock.now() + context.timing.second_interrupt
    while context.clock.now() < end and stops.count < 2:
        context.clock.sleep(TICK_S)
    return stops.count > 1

"""Ctrl-C and SIGTERM as counts: an exception would strike anywhere, also where a machine is being destroyed."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
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
    workers: list[threading.Event], context: LaunchContext, stops: Stops, monitor: DeadlineMonitor, attached: bool
) -> bool:
    """Wait for the workers of a launch, while each Ctrl-C makes it shorter; false when the user did not wait to the end.

    In `attach` the first Ctrl-C leaves, and so does any further one. In a launching client on a terminal one alone detaches;
    a second one within `timing.second_interrupt`, SIGTERM, or a Ctrl-C without a terminal asks the jobs to save, downloads and
    destroys. One more destroys at once, and one more ends this process, though not before there was time to confirm it.
    """

    def done() -> bool:
        return all(worker.is_set() for worker in workers)

    def wait_for(condition: Callable[[], bool]) -> None:
        while not done() and not condition():
            context.clock.sleep(TICK_S)

    wait_for(lambda: stops.count > 0)
    if done():
        return True
    if stops.interrupted and attached:
        log.warning("Interrupted: detaching; the jobs keep running without this client.")
        presses = stops.count
        context.leaving.set()
        wait_for(lambda: stops.count > presses)
        return done()
    if stops.interrupted and on_a_terminal() and not _asked_twice(context, stops):
        presses = stops.count
        log.warning(
            "Detaching: a machine that has no job running yet is set up first. Ctrl-C again ends everything instead."
        )
        context.leaving.set()
        wait_for(lambda: stops.count > presses)
    if not done():
        log.warning(
            "Stopping: jobs have %.0f s to save a checkpoint, then results are downloaded and machines destroyed. "
            "What runs no job yet is destroyed now. Ctrl-C again destroys all machines at once.", context.timing.grace,
        )  # fmt: skip
        presses = stops.count
        context.stopping.set()
        monitor.stop(context.clock.now())
        wait_for(lambda: stops.count > presses)
    if not done():
        log.warning("Destroying all machines of %s now, until they are confirmed gone.", context.launch)
        presses, end = stops.count, context.clock.now() + LAST_CHANCE_S
        monitor.hurried.set()
        wait_for(lambda: stops.count > presses and context.clock.now() >= end)
    return done()


def on_a_terminal() -> bool:
    """Whether a person can answer: in a script or batch job nobody reconnects to what keeps running."""
    try:
        return sys.stdin.isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _asked_twice(context: LaunchContext, stops: Stops) -> bool:
    """Whether Ctrl-C comes again soon: once detaches, twice ends the jobs."""
    seconds = context.timing.second_interrupt
    log.warning(
        "Interrupted: press Ctrl-C again within %.0f s to save, download and destroy; otherwise this client detaches and the "
        "jobs run on.", seconds,
    )  # fmt: skip
    end = context.clock.now() + seconds
    while context.clock.now() < end and stops.count < 2:
        context.clock.sleep(TICK_S)
    return stops.count > 1

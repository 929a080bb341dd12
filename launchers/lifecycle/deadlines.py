"""The client's own deadline for each machine: it knows the ledger and the clock, and asks the machine nothing.

A machine's owner earns by the hour, so the end of the bill must not wait for the machine's word. At its deadline a machine is
destroyed whatever its worker waits for: the connection is cut, which wakes the worker, and the job ends as capped.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from launchers.errors import Cancelled, Capped, StillBilled

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext

log = logging.getLogger("launchers")
TICK_S = 0.25
SETTLE_EVERY_S = 60.0
CREATE_S = 60.0
"""After a stop, for the answer to a create call: a machine whose id is known can be destroyed and confirmed gone."""
OVER_S = 5.0
"""Beyond the grace: until a job that was killed on its machine is seen to have ended."""
MAX_COST = "provider.max_cost is reached"
MAX_HOURS = "provider.max_hours is reached"
MAX_TOTAL_COST = "provider.max_total_cost is reached"
CANCELLED = "cancelled"
SOFT_SHARE = 0.9
"""Of max_total_cost, at which jobs are asked to end: the rest is for their last checkpoint and the download."""


class Phase(Enum):
    """What a stop would interrupt."""

    creating = "the provider answers the create call"
    idle = "it comes up, or has no job"
    setup = "its packages are installed"
    running = "its job runs"
    syncing = "files are downloaded while its job runs"
    fetching = "its results are downloaded"


@dataclass
class MachineDeadline:
    """The deadline of one machine."""

    label: str
    context: LaunchContext
    phase: Phase = Phase.idle
    deadline: float = float("inf")
    why: str = MAX_HOURS
    asked: float | None = None
    """Since when its job is asked to end."""
    asked_why: str = CANCELLED
    cut: Callable[[], None] = lambda: None
    """Breaks what the worker waits for."""
    over: str | None = None
    """Why it is past its deadline, once it is."""
    done: threading.Event = field(default_factory=threading.Event)
    """It was destroyed, or `problem` says why not."""
    problem: StillBilled | None = None
    thread: threading.Thread | None = None

    def ask(self, now: float, why: str) -> None:
        """Note that its job was asked to end: from here on its time is the grace and what a download may take."""
        if self.asked is None:
            self.asked, self.asked_why = now, why

    def limit(self, stopped_at: float | None) -> tuple[float, str]:
        """When the machine is destroyed unconditionally, and why."""
        limits = [(self.deadline, self.why)]
        asked = self.asked if stopped_at is None or self.asked is None else min(stopped_at, self.asked)
        asked = stopped_at if asked is None else asked
        if asked is not None:
            why = self.asked_why if self.asked is not None else CANCELLED
            limits.append((asked + self.context.capacity.stop_wait(self.phase, self.context.timing), why))
        return min(limits)

    def check(self) -> None:
        """
        Raises:
            Capped, Cancelled: its time is over.
        """
        if self.over == CANCELLED:
            raise Cancelled("cancelled by the user; the machine was destroyed before the job ended")
        if self.over is not None:
            raise Capped(f"{self.over}; the machine was destroyed before the job ended")


class DeadlineMonitor:
    """Watches all machines of a launch from a thread of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guards: dict[str, MachineDeadline] = {}
        self._end: Callable[[MachineDeadline], None] = lambda guard: None
        self._settle: Callable[[], object] = lambda: None
        self._stopped_at: float | None = None
        self.hurried = threading.Event()
        """Set by an impatient user: every machine is destroyed now."""
        self._closed = threading.Event()
        self._next_settle = 0.0

    def start(
        self, context: LaunchContext, end: Callable[[MachineDeadline], None], settle: Callable[[], object]
    ) -> None:
        """Begin to watch. `end` destroys a machine and confirms it; `settle` looks for lost create calls now and then."""
        self._end, self._settle = end, settle
        self._next_settle = context.clock.now() + SETTLE_EVERY_S
        context.clock.start(lambda: self._watch(context), "deadlines")

    def close(self) -> None:
        self._closed.set()

    def guard(self, context: LaunchContext, label: str) -> MachineDeadline:
        """The guard of a machine, made at the first call."""
        with self._lock:
            if label not in self._guards:
                self._guards[label] = MachineDeadline(label, context)
            return self._guards[label]

    def find(self, label: str) -> MachineDeadline | None:
        return self._guards.get(label)

    def forget(self, label: str) -> None:
        """It is gone, or left alone."""
        with self._lock:
            self._guards.pop(label, None)

    def stop(self, now: float) -> None:
        """The user wants the end: every machine's time is what saving and downloading take."""
        if self._stopped_at is None:
            self._stopped_at = now

    def _watch(self, context: LaunchContext) -> None:
        told = False
        while not context.clock.wait(self._closed, TICK_S):
            try:
                self._look(context, context.clock.now())
            except Exception as error:
                if not told:
                    log.warning("Deadlines can't be read from the ledger (%s); using the last known ones.", error)
                told = True

    def _look(self, context: LaunchContext, now: float) -> None:
        with self._lock:
            guards = [guard for guard in self._guards.values() if guard.over is None]
        for guard in guards:
            limit, why = guard.limit(self._stopped_at)
            if self.hurried.is_set():
                limit, why = now, CANCELLED
            if now >= limit:
                self._expire(guard, why)
        if now >= self._next_settle:
            self._next_settle = now + SETTLE_EVERY_S
            context.clock.start(self._settle, "settle")
        cap = context.settings.max_total_cost
        if cap is not None and context.ledger.exposure(context.launch, now) >= cap:
            for guard in guards:
                self._expire(guard, MAX_TOTAL_COST)

    def _expire(self, guard: MachineDeadline, why: str) -> None:
        if guard.over is not None:
            return
        guard.over = why
        guard.context.clock.start(lambda: self._destroy(guard), f"end-{guard.label}")

    def _destroy(self, guard: MachineDeadline) -> None:
        guard.thread = threading.current_thread()
        # In a thread of its own: closing a connection may wait for the other side.
        guard.context.clock.start(guard.cut, f"cut-{guard.label}")
        try:
            self._end(guard)
        except StillBilled as error:
            guard.problem = error
        except Exception as error:  # whatever it is, nobody has seen the machine gone
            guard.problem = StillBilled(
                f"STILL BILLED: {guard.label} could not be destroyed ({type(error).__name__}: {error}). Run "
                f"`python -m launchers stop {guard.context.launch}`, or `python -m launchers reap`."
            )
            log.error("%s", guard.problem)
        finally:
            guard.done.set()


def is_over_total(context: LaunchContext) -> bool:
    """Whether the launch is so close to its cap that every job must stop."""
    cap = context.settings.max_total_cost
    return cap is not None and context.ledger.exposure(context.launch, context.clock.now()) >= SOFT_SHARE * cap


def check_caps(context: LaunchContext, job: str) -> None:
    """
    Raises:
        Capped: nothing more may be rented for this job.
    """
    record, settings = context.ledger.job(job), context.settings
    if settings.max_cost is not None and record.cost >= settings.max_cost:
        raise Capped(MAX_COST)
    if record.seconds >= settings.max_hours * 3600:
        raise Capped(MAX_HOURS)
    if is_over_total(context):
        raise Capped(MAX_TOTAL_COST)

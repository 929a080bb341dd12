"""Virtual time: a launch of hours runs in milliseconds, and the same schedule runs the same way each time."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from types import TracebackType

STALLED_S = 10.0
"""Real seconds in which no thread comes back to the clock, after which one of them is taken to wait for another's lock.

Long, since on a busy machine a thread may get no turn for a while, and time must not go on without it.
"""


class Stuck(AssertionError):
    """Every thread waits for something that no thread will do, or virtual time has run beyond its limit."""


class _Closed(BaseException):
    """Unwinds a thread that still sleeps when its clock is closed."""


class _Strand:
    """One registered thread, and what it waits for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.gate = threading.Lock()
        self.gate.acquire()
        self.event: threading.Event | None = None
        self.until: float | None = None
        self.thread: threading.Thread | None = None
        self.is_killed = False


class VirtualClock:
    """A `launchers.clock.Clock` for the thread that makes it and the threads that are started through it.

    One of them runs at a time, until it sleeps, waits or ends. Time stands still while one runs; when all wait, it moves to the
    earliest wake-up. An event that a thread waits for may be set in any way. Use it as a context manager: leaving it ends the
    threads that still sleep.
    """

    def __init__(self, start: float = 1_800_000_000.0, limit: float = 6 * 3600.0) -> None:
        self._now = start
        self._limit = start + limit
        self._lock = threading.RLock()  # a timer may set another one
        self._numbers = itertools.count()
        self._waiting: list[_Strand] = []
        """In the order in which they came to wait."""
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._running = 1
        self._switches = 0
        self._local = threading.local()
        self._main = self._local.strand = _Strand(next(self._numbers))
        self._threads: list[_Strand] = []
        self._stuck: str | None = None
        self._error: BaseException | None = None
        self._closed = False

    def __enter__(self) -> VirtualClock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            strands, self._waiting = self._waiting, []
        for strand in strands:
            strand.gate.release()
        for strand in self._threads:
            if strand.thread is not None:
                strand.thread.join(5)

    # --- the protocol

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._wait(None, self._now + max(seconds, 0.0))

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        if not event.is_set():
            self._wait(event, None if seconds is None else self._now + max(seconds, 0.0))
        return event.is_set()

    def start(self, target: Callable[[], object], name: str) -> None:
        if self._closed or self._local.strand.is_killed:
            raise _Closed
        strand = _Strand(next(self._numbers))

        def run() -> None:
            self._local.strand = strand
            strand.gate.acquire()
            try:
                if not self._closed and not strand.is_killed:
                    target()
            except _Closed:
                pass
            finally:
                if not strand.is_killed:
                    self._hand_over()

        strand.thread = threading.Thread(target=run, name=name, daemon=True)
        with self._lock:
            strand.until = self._now
            self._waiting.append(strand)
            self._threads.append(strand)
        strand.thread.start()

    # --- for schedules of faults

    def call_at(self, when: float, act: Callable[[], object]) -> None:
        """Call `act` at a time, while no thread runs; it must not wait."""
        with self._lock:
            heapq.heappush(self._timers, (when, next(self._numbers), act))

    def interrupt(self, error: BaseException) -> None:
        """Raise an error in the main thread at its next wake-up; for use at a time."""
        self._error = error

    def kill_threads(self) -> None:
        """End all threads but the calling one where they wait, as a process ends that is killed."""
        with self._lock:
            killed = [strand for strand in self._waiting if strand is not self._local.strand]
            self._waiting = []
            for strand in killed:
                strand.is_killed = True
        for strand in killed:
            strand.gate.release()
            if strand.thread is not None:
                strand.thread.join(5)

    # --- how threads take turns

    def _wait(self, event: threading.Event | None, until: float | None) -> None:
        strand: _Strand | None = getattr(self._local, "strand", None)
        assert strand is not None, "this thread was not started through the clock"
        if self._closed or strand.is_killed:
            raise _Closed
        strand.event, strand.until = event, until
        with self._lock:
            self._waiting.append(strand)
            self._running -= 1
            next_one = self._pick() if self._running == 0 else None
            if next_one is not None:
                self._running += 1
                self._switches += 1
        if next_one is not strand:
            if next_one is not None:
                next_one.gate.release()
            self._stand_by(strand)
        if self._stuck and strand is self._main:
            raise Stuck(self._stuck)
        if self._error is not None and strand is self._main:
            error, self._error = self._error, None
            raise error
        if self._closed or strand.is_killed:
            raise _Closed

    def _stand_by(self, strand: _Strand) -> None:
        seen = -1
        while not strand.gate.acquire(timeout=STALLED_S if strand is self._main else -1):
            with self._lock:
                if seen != self._switches:  # somebody moves
                    seen = self._switches
                    continue
                next_one = self._pick()
                self._running += 1
                self._switches += 1
            next_one.gate.release()

    def _hand_over(self) -> None:
        """The running thread ends."""
        with self._lock:
            self._running -= 1
            if self._running > 0 or self._closed:
                return
            next_one = self._pick()
            self._running += 1
            self._switches += 1
        next_one.gate.release()

    def _pick(self) -> _Strand:
        """The thread whose turn it is; moves the time if all wait for it."""
        while True:
            first: _Strand | None = None
            due: float | None = None
            for strand in self._waiting:
                if strand.event is not None and strand.event.is_set():
                    self._waiting.remove(strand)
                    return strand
                # Of those that are due at one time, the one that came first.
                if strand.until is not None and (due is None or strand.until < due):
                    first, due = strand, strand.until
            if self._timers and (due is None or self._timers[0][0] <= due) and self._timers[0][0] <= self._limit:
                when, _, act = heapq.heappop(self._timers)
                self._now = max(self._now, when)
                act()
                continue
            if first is None or due is None or due > self._limit:
                waiting = ", ".join(s.thread.name if s.thread else "main" for s in self._waiting)
                self._stuck = f"nothing will wake {waiting}" if due is None else f"still waiting: {waiting}"
                if self._main in self._waiting:
                    self._waiting.remove(self._main)
                return self._main
            self._now = max(self._now, due)
            self._waiting.remove(first)
            return first

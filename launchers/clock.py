"""Time, waiting and threads of the launch core, all handed in: tests run days of a launch in milliseconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from launchers.errors import RetryLater

Result = TypeVar("Result")


class Clock(Protocol):
    """Every wait and every thread of the launch core goes through one of these."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None: ...

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        """Wait until the event is set, for at most `seconds`; whether it is set."""

    def start(self, target: Callable[[], object], name: str) -> None:
        """Run `target` in a daemon thread."""


class WallClock:
    """The real time and the real threads."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        return event.wait(seconds)

    def start(self, target: Callable[[], object], name: str) -> None:
        threading.Thread(target=target, name=name, daemon=True).start()


def pauses(clock: Clock, first: float, total: float, longest: float = 60.0) -> Iterator[float]:
    """Sleep a growing pause before each turn but the first, until `total` seconds have gone by; yields the time left."""
    end = clock.now() + total
    pause = first
    while True:
        left = end - clock.now()
        yield left
        if left <= 0:
            return
        clock.sleep(min(pause, longest, max(left, 0.0)))
        pause *= 2


def retried(call: Callable[[], Result], clock: Clock, first: float, total: float) -> Result:
    """`call()` again after each `RetryLater`, with growing pauses; the last error passes when `total` seconds are over."""
    error: RetryLater | None = None
    for _ in pauses(clock, first, total):
        try:
            return call()
        except RetryLater as caught:
            error = caught
    assert error is not None
    raise error

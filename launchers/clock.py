"""One clock and one way of waiting, both handed in, so that tests wait on no real time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from launchers.errors import RetryLater

Result = TypeVar("Result")


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


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

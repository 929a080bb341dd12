"""What every step of a launch needs at hand: provider, ledger, clock, keys, and whether the user wants to stop."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.clock import Clock, Result, WallClock, retried
from launchers.errors import Cancelled, RetryLater
from launchers.ledger import Ledger
from launchers.lifecycle.deadlines import DeadlineMonitor, MachineDeadline
from launchers.providers.base import Provider
from launchers.secrecy import scrub
from launchers.settings import RentalSettings, Timing
from launchers.text import shown
from launchers.transport.keys import KeyPair

if TYPE_CHECKING:
    from launchers.capacity.base import Capacity

log = logging.getLogger("launchers")


@dataclass
class LaunchContext:
    """One launch's surroundings; shared by its threads."""

    launch: str
    provider: Provider
    ledger: Ledger
    settings: RentalSettings
    timing: Timing
    home: Path
    keys: KeyPair
    capacity: Capacity
    """What its jobs run on; one object for all threads of the launch."""
    clock: Clock = field(default_factory=WallClock)
    stopping: threading.Event = field(default_factory=threading.Event)
    leaving: threading.Event = field(default_factory=threading.Event)
    """The user goes and the jobs stay, where that costs nothing but the jobs."""
    monitor: DeadlineMonitor = field(default_factory=DeadlineMonitor)

    def retry(self, call: Callable[[], Result], stoppable: bool = False) -> Result:
        """A request to the provider, repeated while the trouble may pass.

        Args:
            stoppable: give up at a stop; only where nothing is rented that the request would end.

        Raises:
            Cancelled: the user wants to stop, and `stoppable` was set.
        """
        told = False

        def attempt() -> Result:
            nonlocal told
            try:
                return call()
            except RetryLater as error:
                if not told and self.timing.retry_total > 0:
                    self.say(
                        self.launch, f"{error} Retrying for up to {self.timing.retry_total:.0f} s.", logging.WARNING
                    )
                told = True
                raise

        clock = _Stoppable(self) if stoppable else self.clock
        return retried(attempt, clock, self.timing.retry_first, self.timing.retry_total)

    def rest(self, seconds: float, guard: MachineDeadline | None = None) -> None:
        """Sleep, but not into a stop, nor beyond a machine's deadline.

        Raises:
            Cancelled: the user wants to stop.
            Capped: the machine's time is over.
        """
        end = self.clock.now() + seconds
        while True:
            if guard is not None:
                guard.check()
            if self.stopping.is_set():
                raise Cancelled("Stopped by the user.")
            left = end - self.clock.now()
            if left <= 0:
                return
            self.clock.sleep(min(left, 0.5))

    def say(self, subject: str, text: str, level: int = logging.INFO) -> None:
        """Log a message and write it to the ledger. `text` may quote a machine or a provider."""
        text = shown(scrub(text))
        log.log(level, "%s: %s", subject, text)
        try:
            self.ledger.note(subject, text, self.clock.now())
        except (
            sqlite3.Error,
            OSError,
        ) as error:  # a full disk: what was said is on the console, and what is done goes on
            log.debug("not in the ledger: %s", error)


@dataclass
class _Stoppable:
    """The context's clock, woken by a stop."""

    context: LaunchContext

    def now(self) -> float:
        return self.context.clock.now()

    def sleep(self, seconds: float) -> None:
        self.context.rest(seconds)

    def wait(self, event: threading.Event, seconds: float | None = None) -> bool:
        return self.context.clock.wait(event, seconds)

    def start(self, target: Callable[[], object], name: str) -> None:
        self.context.clock.start(target, name)

"""What every step of a launch needs at hand: provider, ledger, clock, keys, and whether the user wants to stop."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from launchers.clock import Clock, Result, WallClock, retried
from launchers.errors import Cancelled, CredentialError, RetryLater
from launchers.ledger import Ledger
from launchers.lifecycle.deadlines import DeadlineMonitor, MachineDeadline
from launchers.providers import parts_of
from launchers.providers.base import Provider
from launchers.secrecy import scrub
from launchers.settings import RentalSettings, Timing
from launchers.text import shown
from launchers.transport.keys import KeyPair

if TYPE_CHECKING:
    from launchers.capacity.base import Capacity
    from launchers.registry import Parts

log = logging.getLogger("launchers")


@dataclass(frozen=True)
class Place:
    """One provider where a launch may rent, and what its jobs run on there."""

    provider: Provider
    capacity: Capacity


class _Undecided:
    """In place of a provider where each machine has its own: to ask this one is a mistake, which must not find a wrong answer."""

    name = "undecided"


UNDECIDED = cast(Provider, _Undecided())


@dataclass
class LaunchContext:
    """One launch's surroundings; shared by its threads.

    Where a launch may rent at several providers, `provider` is `UNDECIDED`, and `at` has the surroundings at each of them.
    """

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
    places: Mapping[str, Place] = field(default_factory=dict)
    """Of a launch that may rent at several providers, by their names; otherwise none."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Provider -> why this launch can't rent there."""
    split: Callable[[RentalSettings], Parts] = parts_of
    """Settings of the launch -> those at each provider."""

    def at(self, provider: str) -> LaunchContext:
        """The surroundings of what is rented at one provider, with its own settings.

        Raises:
            CredentialError: this launch can't talk to that provider.
        """
        if self.provider is not UNDECIDED:
            return self
        if provider not in self.places:
            why = self.left_out.get(provider, "it is not among provider.providers")
            raise CredentialError(f"This launch can't use {provider}: {why}")
        place, settings = self.places[provider], self.split(self.settings).settings[provider]
        return replace(self, provider=place.provider, capacity=place.capacity, settings=settings, places={})

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

"""What a launch from Python wants to know of it: plans instead of machines, or what became of each job.

Hydra's sweepers stand between the caller and the launchers, and hand nothing through. So the caller sets a `Capture` for the time
of the call, and the launchers look for it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from launchers.planning import PlannedJob


@dataclass
class Capture:
    """One call from Python."""

    entry_point: str
    """What a machine runs in place of this process's own module."""
    planning: bool
    """Plan the jobs; start none."""
    planned: list[PlannedJob] = field(default_factory=list)
    returns: list[JobReturn] = field(default_factory=list)


_current: ContextVar[Capture | None] = ContextVar("capture", default=None)


def current() -> Capture | None:
    """That of the call from Python that is under way; None for a command."""
    return _current.get()


def is_planning() -> bool:
    capture = _current.get()
    return capture is not None and capture.planning


def keep_returns(returns: Iterable[JobReturn]) -> None:
    if (capture := _current.get()) is not None:
        capture.returns.extend(returns)


@contextlib.contextmanager
def captured(capture: Capture) -> Iterator[Capture]:
    token = _current.set(capture)
    try:
        yield capture
    finally:
        _current.reset(token)

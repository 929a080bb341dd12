"""What the jobs of a sweep cost that have not ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launchers.ledger import Ledger


@dataclass(frozen=True)
class Bill:
    """Of one job."""

    dollars: float
    """So far."""
    price: float | None
    """$/h of the machine that it is on."""
    has_started: bool
    """Its machine runs it: what a machine needs to get ready is over."""


Meter = Callable[[], Mapping[str, Bill]]
"""Returns the bills by the names of the jobs in the ledger; asked by any thread."""


def nothing_billed() -> Mapping[str, Bill]:
    """The meter of jobs that run on this machine."""
    return {}


def of_launch(ledger: Ledger, launch: str) -> Meter:
    """The meter of a launch's jobs."""

    def read() -> Mapping[str, Bill]:
        machines = {machine.label: machine for machine in ledger.machines(launch)}
        bills = {}
        for record in ledger.open_jobs(launch):
            machine = machines.get(record.machine or "")
            price = machine.price if machine else None
            bills[record.spec.id] = Bill(record.cost, price, record.started is not None)
        return bills

    return read

"""What commands that want nothing of a machine do first: end machines whose time is over, where no watchdog on the machine can do it.

A provider whose machines hold no key of their own leaves that to us: the next command that is run here.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from launchers.cli.jobs import _context
from launchers.cli.money import _is_attended, deadline_of
from launchers.errors import LaunchError, MendInput
from launchers.job import Billing
from launchers.launcher import close_if_done
from launchers.ledger import Ledger, MachineRecord, launchers_home
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.release import release, still_billed
from launchers.providers.base import SelfDestruct

log = logging.getLogger("launchers")
PATIENCE_S = 20.0
"""A command that was asked for something else does not wait longer for a provider in trouble."""


def end_overdue() -> None:
    """End what is past its deadline, or has no job left, and is attended to by nobody; trouble is told, and stops no command.

    Looks again for machines whose create call was never answered, and names those that may still be billed.
    """
    if not (launchers_home() / "ledger.sqlite").exists():
        return
    try:
        ledger = Ledger.open()
        for machine in ledger.machines():
            if machine.billing is not Billing.gone and machine.bills_idle:
                try:
                    _look_after(ledger, machine)
                except LaunchError as error:
                    log.warning("%s", error)
        ledger.close()
    except LaunchError as error:
        log.warning("%s", error)


def _look_after(ledger: Ledger, machine: MachineRecord) -> None:
    records = ledger.jobs(machine.launch)
    if not records or _is_attended(ledger, machine.launch, machine):
        return
    overdue = time.time() >= deadline_of(machine, records[0].spec)
    if not machine.unsettled and not overdue and not all(record.state.ended for record in records):
        return
    context = _context(ledger, records[0])
    if isinstance(context.provider, SelfDestruct) and not machine.unsettled:
        return
    context.timing = replace(context.timing, retry_total=min(context.timing.retry_total, PATIENCE_S))
    try:
        with _claimed_if_alive(machine.launch):
            if machine.unsettled:
                release(context, machine.label, looks=1)
                machine = ledger.machine(machine.label)
                if machine.unsettled:
                    log.warning("%s", still_billed(machine, "and it is not listed yet"))
            else:
                context.say(machine.label, "is past its time and attended to by nobody: ending it", logging.WARNING)
                release(context, machine.label)
            close_if_done(ledger, machine.launch)
    except LaunchError as error:
        log.warning("%s", error)


@contextlib.contextmanager
def _claimed_if_alive(launch: str) -> Iterator[None]:
    """Hold the launch, unless a client that hangs does: its machine's deadline is over."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(MendInput):
            stack.enter_context(claimed(launchers_home(), launch))
        yield

"""Overdue machines: destroyed at the start of each command that needs nothing from a machine.

Where a provider's machines cannot destroy themselves, the next command on this computer does it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import replace

from launchers.cli.reopen import context_of, deadline_of, is_attended
from launchers.errors import LaunchError, MendInput
from launchers.job import Billing
from launchers.ledger import Ledger, MachineRecord, launchers_home
from launchers.lifecycle.opening import close_if_done
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.release import release, still_billed
from launchers.providers.base import SelfDestruct

log = logging.getLogger("launchers")
PATIENCE_S = 20.0
"""How long a command waits for a provider that does not answer: the user asked for something else."""


def end_overdue() -> None:
    """Destroy orphaned machines that are past their deadline or have no job left. A failure is a warning, and stops no command.

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
    if not records or is_attended(ledger, machine.launch, machine):
        return
    overdue = time.time() >= deadline_of(machine, records[0].spec)
    if not machine.unsettled and not overdue and not all(record.state.ended for record in records):
        return
    context = context_of(ledger, records[0])
    if isinstance(context.at(machine.provider).provider, SelfDestruct) and not machine.unsettled:
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
                context.say(
                    machine.label, "is past its deadline and no client is attached: destroying it", logging.WARNING
                )
                release(context, machine.label)
            close_if_done(ledger, machine.launch)
    except LaunchError as error:
        log.warning("%s", error)


@contextlib.contextmanager
def _claimed_if_alive(launch: str) -> Iterator[None]:
    """Hold the launch, unless a client that hangs holds it: the machine's deadline has passed."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(MendInput):
            stack.enter_context(claimed(launchers_home(), launch))
        yield

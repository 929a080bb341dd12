"""What commands that want nothing of a machine do first: end machines whose time is over, where no watchdog on the machine can do it.

A provider whose machines hold no key of their own leaves that to us: the next command that is run here.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from launchers.cli.jobs import _office
from launchers.cli.money import _is_attended
from launchers.errors import LaunchError
from launchers.job import Billing
from launchers.ledger import Ledger, MachineRecord, launchers_home
from launchers.lifecycle.rental import GIVE_BACK_S, give_back
from launchers.lifecycle.takeover import claimed
from launchers.providers.base import SelfDestruct
from launchers.rented import close_if_done

log = logging.getLogger("launchers")
PATIENCE_S = 20.0
"""A command that was asked for something else does not wait longer for a provider in trouble."""


def end_overdue() -> None:
    """End what is past its hours, or has no job left, and is attended to by nobody. Trouble is told, and stops no command."""
    if not (launchers_home() / "ledger.sqlite").exists():
        return
    try:
        ledger = Ledger.open()
        for machine in ledger.machines():
            if machine.billing is not Billing.gone and not machine.offer.per_job:
                try:
                    _end_if_overdue(ledger, machine)
                except LaunchError as error:
                    log.warning("%s", error)
        ledger.close()
    except LaunchError as error:
        log.warning("%s", error)


def _end_if_overdue(ledger: Ledger, machine: MachineRecord) -> None:
    records = ledger.jobs(machine.launch)
    if not records or _is_attended(ledger, machine.launch):
        return
    end = machine.created + records[0].spec.settings["max_hours"] * 3600 + GIVE_BACK_S
    if time.time() < end and not all(record.outcome.ended for record in records):
        return
    office = _office(ledger, records[0])
    if isinstance(office.provider, SelfDestruct):
        return
    office.timing = replace(office.timing, retry_total=min(office.timing.retry_total, PATIENCE_S))
    try:
        with claimed(launchers_home(), machine.launch):
            office.say(machine.label, "is past its time and attended to by nobody: ending it", logging.WARNING)
            give_back(office, machine.label)
            close_if_done(ledger, machine.launch)
    except LaunchError as error:
        log.warning("%s", error)

"""The end of a rental: destroyed, and confirmed gone from the provider's own list. The only code that destroys anything."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from dataclasses import replace
from typing import Any

from launchers.clock import pauses
from launchers.errors import LaunchError, StillBilled
from launchers.job import Billing, MachineStatus
from launchers.ledger import SETTLE_S, MachineRecord
from launchers.lifecycle.context import LaunchContext
from launchers.providers import stop_command

log = logging.getLogger("launchers")
LOOKS = 3
"""Times the provider's list is read before a label counts as absent: it may lag behind a create call."""


def find_by_label(context: LaunchContext, label: str, looks: int) -> MachineStatus | None:
    """The machine with a label; looks more than once, since a list may lag behind a create call."""
    for look in range(looks):
        machines = context.retry(context.provider.list_mine)
        found = next((machine for machine in machines if machine.label == label), None)
        if found is not None:
            return found
        if look + 1 < looks:
            context.clock.sleep(context.timing.poll)
    return None


def release(context: LaunchContext, label: str, looks: int = LOOKS, refused: bool = False) -> None:
    """End a rental and see it gone from the provider's own list. Never interrupted by a stop; a second call does nothing.

    Args:
        refused: the provider said itself that it did not carry out the create call, so that its list may be believed.

    Raises:
        StillBilled: it could not be confirmed gone; the ledger says `billing`.
    """
    guard = context.warden.find(label)
    if guard is not None and guard.over is not None and threading.current_thread() is not guard.warden:
        guard.done.wait()
        if guard.problem is not None:
            raise guard.problem
    record = context.ledger.machine(label)
    if record.billing is Billing.gone:
        return
    problem = "the provider still lists it"
    for _ in pauses(context.clock, context.timing.retry_first, context.timing.retry_total):
        try:
            if record.instance is None:
                found = find_by_label(context, label, looks)
                record = context.ledger.machine(label)  # its create call may have been answered meanwhile
                if found is None and record.instance is None:
                    return (
                        _leave_open(context, record)
                        if _is_open(context, record, refused)
                        else _mark_gone(context, record)
                    )
                if found is not None:
                    _write(context, label, instance=found.instance, billing=Billing.billed)
                    record = replace(record, instance=found.instance)
            assert record.instance is not None
            context.provider.destroy(record.instance)
            left = [m for m in context.provider.list_mine() if record.instance == m.instance or label == m.label]
            if not left:
                return _mark_gone(context, record)
            if left[0].instance != record.instance:  # resumed under a new id that nobody heard of
                _write(context, label, instance=left[0].instance)
                record = replace(record, instance=left[0].instance)
            problem = "the provider still lists it"
        except LaunchError as error:
            problem = str(error).rstrip(".")
    _write(context, label, billing=Billing.billing, note=problem)
    text = still_billed(record, problem)
    context.say(label, text, logging.ERROR)
    raise StillBilled(text)


def still_billed(record: MachineRecord, problem: str) -> str:
    """What a person must know of a machine that may cost money, with the command that stops it."""
    if record.instance is None:
        return (
            f"MAY BE BILLED: the call to create {record.label} at {record.provider} was not answered ({problem}); it would "
            f"cost ${record.price:.3f} per hour. `python -m launchers reap` looks for it, and destroys it."
        )
    command = stop_command(record.provider, record.instance)
    return (
        f"STILL BILLED: {record.provider} instance {record.instance} could not be confirmed gone ({problem}); it costs "
        f"${record.price:.3f} per hour. Stop it with `{command}`, or run `python -m launchers reap`."
    )


def settle_intents(context: LaunchContext) -> list[MachineRecord]:
    """Look again for machines of a launch whose create call was never answered; returns those that are still open.

    One that shows up is destroyed: nobody waits for it any more. One that never did is gone after `SETTLE_S`.
    """
    left = []
    for record in context.ledger.machines(context.launch):
        if not record.unsettled or context.warden.find(record.label) is not None:
            continue
        with contextlib.suppress(StillBilled):
            release(context, record.label, looks=1)
        record = context.ledger.machine(record.label)
        if record.unsettled:
            left.append(record)
    return left


def _is_open(context: LaunchContext, record: MachineRecord, refused: bool) -> bool:
    """Whether a machine may still show up: absence from a list that may lag proves nothing yet."""
    young = context.clock.now() < record.created + SETTLE_S
    return young and not refused and not record.offer.per_job


def _leave_open(context: LaunchContext, record: MachineRecord) -> None:
    context.warden.forget(record.label)


def _mark_gone(context: LaunchContext, record: MachineRecord) -> None:
    now = context.clock.now()
    context.warden.forget(record.label)
    if record.instance is not None and not record.offer.per_job:
        with contextlib.suppress(sqlite3.Error, OSError):
            context.ledger.charge(record.label, now)
    _write(context, record.label, billing=Billing.gone, ended=now)
    if record.instance is not None:
        context.say(
            record.label, f"confirmed gone after {(now - record.created) / 60:.1f} min, ${record.cost(now):.4f}"
        )


def _write(context: LaunchContext, label: str, **changes: Any) -> None:
    """What is a fact already: a ledger that can't be written must not keep a machine from being destroyed."""
    try:
        context.ledger.update_machine(label, **changes)
    except (sqlite3.Error, OSError) as error:
        what = ", ".join(f"{name} is {value}" for name, value in changes.items())
        log.warning("%s: %s, which the ledger could not take (%s)", label, what, error)

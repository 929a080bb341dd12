"""Release of a rental: destroyed, and confirmed gone by the provider's own list. `confirm_gone` alone calls a provider's `destroy`."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from dataclasses import replace
from functools import partial
from typing import NoReturn

from launchers.clock import pauses
from launchers.errors import CredentialError, LaunchError, StillBilled
from launchers.job import Billing, MachineState, MachineStatus
from launchers.ledger import SETTLE_S, MachineRecord
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.receipt import try_to_write_final_bills
from launchers.providers import stop_command
from launchers.providers.base import Provider

log = logging.getLogger("launchers")
LOOKS = 3
"""Times the provider's list is read before a label counts as absent: it may lag behind a create call."""
UNWATCHED_S = 15.0
"""Without a charge, after which a machine may have ended by itself some time ago: while it is watched, each look charges it."""


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


def confirm_gone(provider: Provider, instance: str, label: str) -> str | None:
    """Ask for the end of a machine, and read the provider's list: None when it is gone, otherwise the id that is still listed.

    The only caller of `Provider.destroy`: launches, their deadlines, `stop`, `reap` and overdue machines all end here.
    """
    provider.destroy(instance)
    left = [m for m in provider.list_mine() if m.instance == instance or (label and m.label == label)]
    return left[0].instance if left else None


def release(context: LaunchContext, label: str, looks: int = LOOKS, refused: bool = False) -> None:
    """End a rental and see it gone from the provider's own list. Never interrupted by a stop; a second call does nothing.

    Args:
        refused: the provider said itself that it did not carry out the create call, so that its list may be believed.

    Raises:
        StillBilled: it could not be confirmed gone; the ledger says `unconfirmed`.
    """
    guard = context.monitor.find(label)
    if guard is not None and guard.over is not None and threading.current_thread() is not guard.thread:
        context.clock.wait(guard.done)
        if guard.problem is not None:
            raise guard.problem
    record = context.ledger.machine(label)
    if record.billing is Billing.gone:
        return
    try:
        context = context.at(record.provider)
    except CredentialError as error:  # its key was taken away since
        _give_up(context, record, str(error).rstrip("."))
    problem, ended = "the provider still lists it", None
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
                    _write(context, label, partial(context.ledger.machine_created, label, found.instance))
                    record = replace(record, instance=found.instance)
            assert record.instance is not None
            if ended is None:
                ended = _ended_by_itself(context, record)
            left = confirm_gone(context.provider, record.instance, label)
            if left is None:
                return _mark_gone(context, record, ended)
            if left != record.instance:  # resumed under a new id that nobody heard of
                _write(context, label, partial(context.ledger.machine_replaced, label, left))
                record = replace(record, instance=left)
            problem = "the provider still lists it"
        except LaunchError as error:
            problem = str(error).rstrip(".")
    _give_up(context, record, problem)


def _give_up(context: LaunchContext, record: MachineRecord, problem: str) -> NoReturn:
    """
    Raises:
        StillBilled: with what a person must know.
    """
    _write(context, record.label, partial(context.ledger.machine_unconfirmed, record.label, problem))
    text = still_billed(record, problem)
    context.say(record.label, text, logging.ERROR)
    raise StillBilled(text)


def still_billed(record: MachineRecord, problem: str) -> str:
    """What a person must know of a machine that may cost money, with the command that stops it."""
    if record.instance is None:
        return (
            f"MAY BE BILLED: the call to create {record.label} at {record.provider} was not answered ({problem}); it would "
            f"cost ${record.price:.3f} per hour. `python -m launchers reap` looks for it and destroys it."
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
        if not record.unsettled or context.monitor.find(record.label) is not None:
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
    return young and not refused and record.bills_idle


def _leave_open(context: LaunchContext, record: MachineRecord) -> None:
    context.monitor.forget(record.label)


def _ended_by_itself(context: LaunchContext, record: MachineRecord) -> float | None:
    """When a machine ended that nobody watched, and that is gone already: as its provider says, or else with its lease.

    None where it still exists, or where its cost was noted so lately that it can't matter.
    """
    now = context.clock.now()
    if not record.bills_idle or record.instance is None or now - (record.accounted or record.created) <= UNWATCHED_S:
        return None
    try:
        status = context.provider.status(record.instance)
    except LaunchError:
        return None
    return lease_end(record, now, status.ended) if status.state is MachineState.gone else None


def lease_end(record: MachineRecord, now: float, ended: float | None = None) -> float:
    """Until when a machine is charged that ended while nobody watched: never later than its lease, nor before its last charge."""
    known = [now if ended is None else ended, now, record.deadline or now]
    return max(min(known), record.accounted or record.created)


def _mark_gone(context: LaunchContext, record: MachineRecord, ended: float | None = None) -> None:
    now = context.clock.now() if ended is None else ended
    context.monitor.forget(record.label)
    _write(context, record.label, partial(context.ledger.machine_gone, record.label, now))
    try_to_write_final_bills(context.ledger, record, now)
    if record.instance is not None:
        what = "machine destroyed" if record.bills_idle else "ended"
        cost = f"; {(now - record.created) / 60:.1f} min, ${record.cost(now):.4f}" if record.bills_idle else ""
        context.say(record.label, f"{what} (confirmed by {record.provider}{cost})")


def _write(context: LaunchContext, label: str, write: partial[None]) -> None:
    """What is a fact already: a ledger that can't take it must not keep a machine from being destroyed."""
    try:
        write()
    except (sqlite3.Error, OSError, AssertionError) as error:
        what = write.func.__name__.replace("machine_", "")
        log.warning("%s is %s; the ledger could not be written (%s).", label, what, error)

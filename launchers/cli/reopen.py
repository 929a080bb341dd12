"""Launches of the ledger, opened again: their context, tasks and machines, and whether a client is attached."""

from __future__ import annotations

import time

from launchers.capacity.base import Lease
from launchers.errors import MendInput
from launchers.job import Billing, JobSpec, JobState
from launchers.ledger import JobRecord, Ledger, MachineRecord, launchers_home
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.opening import open_context
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.task import Task
from launchers.providers import descriptor
from launchers.settings import Timing, typed
from launchers.snapshot import load

OVERDUE_S = 300.0
"""Beyond its deadline, for a client that runs to destroy a machine and confirm it."""


def context_of(ledger: Ledger, record: JobRecord) -> LaunchContext:
    settings = typed(descriptor(record.spec.settings["name"]).settings, record.spec.settings, "provider")
    timing = typed(Timing, record.spec.timing, "timing")
    return open_context(record.launch, settings, timing, launchers_home(), ledger)


def task_of(ledger: Ledger, record: JobRecord) -> Task:
    return Task(record.spec, context_of(ledger, record), load(record.spec.snapshot, launchers_home()))


def lease_of(ledger: Ledger, record: JobRecord) -> Lease:
    """What a job runs on.

    Raises:
        MendInput: it runs on nothing.
    """
    context = context_of(ledger, record)
    machine = ledger.machine(record.machine) if record.machine else None
    return context.capacity.reach(context, machine, record)


def has_client(launch: str) -> bool:
    """Whether a client that runs is attached to a launch."""
    try:
        with claimed(launchers_home(), launch):
            return False
    except MendInput:
        return True


def is_attended(ledger: Ledger, launch: str, machine: MachineRecord | None = None) -> bool:
    """Whether a client is attached to a launch, or its detached job runs as it should; past its deadline, neither counts.

    Of one `machine`, where one is given: a client that hangs does not protect it forever.
    """
    jobs = ledger.jobs(launch)
    if machine is not None and jobs and time.time() >= deadline_of(machine, jobs[0].spec) + OVERDUE_S:
        return False
    if has_client(launch):
        return True
    machines = [m for m in ledger.machines(launch) if m.billing is not Billing.gone]
    # A detached job is left alone: `attach` is what ends it.
    running = [j for j in jobs if j.state is JobState.running and j.spec.settings["detach"]]
    return bool(running and any(time.time() < deadline_of(m, jobs[0].spec) for m in machines))


def deadline_of(machine: MachineRecord, job: JobSpec) -> float:
    """When the client of a machine destroys it, whatever the machine says."""
    if machine.deadline is not None:
        return machine.deadline
    hours = float(job.settings["max_hours"])  # written before ledgers knew deadlines, or billed by what its jobs run
    return machine.created + hours * 3600 + job.timing["grace"] + job.timing.get("fetch", Timing.fetch)

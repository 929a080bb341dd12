"""A launch changes hands: one client at a time holds it, and the next finds the machines of one that died."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from launchers.errors import MendInput
from launchers.job import Billing, JobState, MachineState
from launchers.ledger import JobRecord, MachineRecord
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.ended import read_proof, settle_proven
from launchers.lifecycle.machines import Excluded, Lease, resume, set_terms
from launchers.lifecycle.release import find_by_label, release
from launchers.lifecycle.task import Task


@contextlib.contextmanager
def claimed(home: Path, launch: str) -> Iterator[None]:
    """Hold a launch for this process alone; freed by the system when the process dies.

    Raises:
        MendInput: another client holds it.
    """
    folder = home / "locks"
    folder.mkdir(exist_ok=True, mode=0o700)
    with (folder / f"{launch}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MendInput(
                f"Another client on this machine already attends to {launch}: leave it to that one, or stop it first."
            ) from None
        yield


def held_machines(
    context: LaunchContext, tasks: list[Task], excluded: Excluded
) -> tuple[list[tuple[Lease, Task]], list[Task]]:
    """What a dead client left: machines that live with the jobs that were on them, and the jobs that must begin anew.

    Settles intents whose answer was never seen, and gives back machines that hold no job. Adds to `excluded` the hosts
    of machines that did not come back as what was rented.
    """
    settle_proven(context.ledger, context.launch, context.clock.now())
    tasks = [task for task in tasks if read_proof(task.job) is None]
    unfinished = [
        record
        for record in context.ledger.jobs(context.launch)
        if not record.state.ended and read_proof(record.spec) is None
    ]
    by_machine = {record.machine: record for record in unfinished}
    by_id = {task.job.id: task for task in tasks}
    held: list[tuple[Lease, Task]] = []
    for machine in context.ledger.machines(context.launch):
        job = by_machine.get(machine.label)
        if machine.offer.per_job and machine.instance is not None and job is not None:
            # Whether the application still exists or not: each job's call tells what became of it.
            on_it = [record for record in unfinished if record.machine == machine.label]
            host = context.open_host(context, machine, None)
            guard = context.monitor.guard(context, machine.label, per_job=True)
            held += [(Lease(machine, host, guard), by_id.pop(record.spec.id)) for record in on_it]
            continue
        if machine.billing is Billing.gone:
            continue
        lease = _reconnect(context, machine, job, excluded)
        if lease is not None and job is not None:
            held.append((lease, by_id.pop(job.spec.id)))
        else:
            release(context, machine.label)
            if job is not None and job.state is JobState.running:
                context.ledger.job_requeued(job.spec.id, lost=False)
    return held, list(by_id.values())


def _reconnect(
    context: LaunchContext, machine: MachineRecord, job: JobRecord | None, excluded: Excluded
) -> Lease | None:
    """A machine that still runs and holds a job; None when it is of no more use."""
    if machine.instance is None:
        found = find_by_label(context, machine.label, looks=1)
        if found is None:
            return None
        context.ledger.machine_created(machine.label, found.instance)
        machine = replace(machine, instance=found.instance)
    if job is None:
        return None
    instance = machine.instance
    assert instance is not None
    status = context.retry(lambda: context.provider.status(instance))
    if status.state is MachineState.stopped:
        again = resume(context, machine, job.spec.id, excluded)
        if again is not None:
            return again
    if status.state is not MachineState.running:
        context.say(machine.label, f"is no longer running ({status.detail})")
        return None
    host = context.open_host(context, machine, status)
    # What it cost while nobody watched belongs to its job; its results may be downloaded, however late it is.
    set_terms(context, machine.label, job.spec.id)
    guard = context.monitor.guard(context, machine.label, per_job=False)
    guard.cut = host.cut
    return Lease(context.ledger.machine(machine.label), host, guard)

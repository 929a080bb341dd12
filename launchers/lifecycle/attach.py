"""Attaching to a launch that another client left: settle what has ended, recover what still runs, and finish the rest."""

from __future__ import annotations

from launchers.capacity.base import Excluded, Lease
from launchers.errors import StillBilled
from launchers.job import Billing, JobState
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.deadlines import DeadlineMonitor
from launchers.lifecycle.ended import read_proof, settle_proven
from launchers.lifecycle.release import release
from launchers.lifecycle.scheduler import Scheduler
from launchers.lifecycle.stops import Stops
from launchers.lifecycle.task import Task


def attach(context: LaunchContext, tasks: list[Task], machines: int, prefixed: bool, stops: Stops) -> list[StillBilled]:
    """Finish a launch that this process holds (`reconnect.claimed`); returns what may still cost money at the end.

    Args:
        tasks: its jobs that the ledger takes for unfinished.

    Raises:
        SystemExit: the user asked for the end; what is still billed has been named.
    """
    monitor = DeadlineMonitor()
    for each in (context, *(task.context for task in tasks)):
        each.monitor, each.capacity, each.places = monitor, context.capacity, context.places
        each.settings.detach = False
    settle_proven(context.ledger, context.launch, context.clock.now())
    tasks = [task for task in tasks if read_proof(task.job) is None]
    excluded = Excluded()
    still: list[StillBilled] = []
    try:
        recovered, waiting = recover(context, tasks, excluded)
    except StillBilled as error:
        recovered, waiting = [], tasks
        still.append(error)
    scheduler = Scheduler(waiting, machines, prefixed, excluded, stops, monitor, context, attached=True)
    scheduler.run(recovered)
    return still + scheduler.still_billed


def recover(
    context: LaunchContext, tasks: list[Task], excluded: Excluded
) -> tuple[list[tuple[Lease, Task]], list[Task]]:
    """What a dead client left: leases with the jobs that are on them, and the jobs that must start over.

    Releases what holds no job. Adds to `excluded` the hosts of machines that did not come back as what was rented.

    Raises:
        StillBilled: something could not be confirmed gone.
    """
    by_id = {task.job.id: task for task in tasks}
    unfinished = [record for record in context.ledger.jobs(context.launch) if record.spec.id in by_id]
    recovered: list[tuple[Lease, Task]] = []
    for machine in context.ledger.machines(context.launch):
        on_it = [record for record in unfinished if record.machine == machine.label]
        lease = context.capacity.recover(context, machine, on_it, excluded)
        if lease is not None:
            recovered += [(lease, by_id.pop(record.spec.id)) for record in on_it]
            continue
        if machine.billing is Billing.gone:
            continue
        release(context, machine.label)
        for record in on_it:
            if record.state is JobState.running:
                context.ledger.job_requeued(record.spec.id, lost=False)
    return recovered, list(by_id.values())

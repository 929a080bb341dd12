"""Rented machines with ssh, billed from their creation until they are destroyed, which take one job after another."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from launchers.capacity.base import Excluded, Lease, machine_kind
from launchers.capacity.inspection import check_machine
from launchers.capacity.market import balance_of
from launchers.capacity.renting import rent
from launchers.clock import pauses
from launchers.errors import (
    BadMachine,
    Cancelled,
    Capped,
    LaunchError,
    MendInput,
    OfferTaken,
    Preempted,
    RetryLater,
    Unreachable,
)
from launchers.host import Host, JobStatus, Machine, Probe
from launchers.job import Billing, JobSpec, MachineState, MachineStatus
from launchers.ledger import JobRecord, MachineRecord
from launchers.lifecycle.deadlines import CREATE_S, MAX_COST, MAX_HOURS, OVER_S, MachineDeadline, Phase
from launchers.lifecycle.release import LOOKS, find_by_label, release
from launchers.planning import reserve
from launchers.providers.base import DirectSsh, Resumes, SelfDestruct, SpotBidding
from launchers.settings import RentalSettings, Timing

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext
    from launchers.lifecycle.task import Task

RATE_TOLERANCE = 1.05
"""Billed over quoted price above which a machine is destroyed at once."""
FIRST_POLL_S = 2.0
"""A machine whose image is there already runs within seconds: the first questions come closer than `timing.poll`."""
LOGIN_PAUSE_S = 0.5
"""Between two tries to log in to a machine that has just come up."""
OpenHost = Callable[["LaunchContext", MachineRecord, MachineStatus], Host]


def open_ssh_host(context: LaunchContext, machine: MachineRecord, status: MachineStatus) -> Host:
    """A machine with ssh; its host key is pinned in the ledger at the first contact."""
    from launchers.transport.host import SshHost
    from launchers.transport.ssh import Connection

    def pin(host_key: str) -> None:
        context.ledger.pin_host_key(machine.label, host_key)

    connection = Connection(status.addresses, context.keys, machine.host_key, pin)
    return SshHost(connection, context.settings.remote_root, context.timing.setup)


class MachineCapacity:
    """A `Capacity` of machines: each lease is one machine of its own."""

    keeps_jobs = False

    def __init__(self, open_host: OpenHost = open_ssh_host) -> None:
        self._open_host = open_host

    def workers(self, jobs: int, machines: int) -> int:
        return min(jobs, machines)

    def kind_of(self, settings: RentalSettings) -> tuple[object, ...]:
        return machine_kind(settings)

    def acquire(self, task: Task, excluded: Excluded) -> Lease:
        return rent(task, excluded, self)

    def bring_up(self, context: LaunchContext, label: str, job: str) -> Lease:
        record = context.ledger.machine(label)
        assert record.instance is not None
        provider, instance, offer = context.provider, record.instance, record.offer
        guard = context.monitor.guard(context, label)
        if isinstance(provider, DirectSsh):
            context.retry(lambda: provider.authorize(instance, context.keys.public), stoppable=True)
        status = _wait_until_running(context, instance, guard)
        if offer.spot and not status.spot:
            raise BadMachine(f"instance {instance} is on-demand although a spot machine was asked for")
        if not status.price <= offer.price * RATE_TOLERANCE:
            raise BadMachine(
                f"instance {instance} is billed at ${status.price:.3f} per hour, but the offer was ${offer.price:.3f}"
            )
        # a market that can't tell what it bills now has at least told what it would
        context.ledger.set_price(label, status.price or offer.price)
        host = self._open_host(context, context.ledger.machine(label), status)
        guard.cut = host.cut
        try:
            check_machine(_first_contact(context, host, instance, guard), context.settings)
            self._tell_terms(context, host, label, job)
        except BaseException:
            host.close()
            raise
        context.say(label, f"machine is ready ({status.gpu or 'no GPU'}; checked against its offer)")
        return Lease.of_host(context.ledger.machine(label), host, guard)

    def extend(self, context: LaunchContext, lease: Lease, job: str) -> None:
        for machine in lease.machines:
            self._tell_terms(context, machine, lease.record.label, job)

    def recover(
        self, context: LaunchContext, record: MachineRecord, jobs: Sequence[JobRecord], excluded: Excluded
    ) -> Lease | None:
        if record.billing is Billing.gone:
            return None
        if record.instance is None:
            found = find_by_label(context, record.label, looks=1)
            if found is None:
                return None
            context.ledger.machine_created(record.label, found.instance)
            record = replace(record, instance=found.instance)
        if not jobs:
            return None
        instance, job = record.instance, jobs[0].spec.id
        assert instance is not None
        status = context.retry(lambda: context.provider.status(instance))
        if status.state is MachineState.stopped:
            again = self._resume(context, record, job, excluded)
            if again is not None:
                return again
        if status.state is not MachineState.running:
            context.say(record.label, f"is no longer running ({status.detail})")
            return None
        host = self._open_host(context, record, status)
        # What it cost while nobody watched belongs to its job; its results may be downloaded, however late it is.
        self.set_terms(context, record.label, job)
        guard = context.monitor.guard(context, record.label)
        guard.cut = host.cut
        return Lease.of_host(context.ledger.machine(record.label), host, guard)

    def reach(self, context: LaunchContext, record: MachineRecord | None, job: JobRecord) -> Lease:
        if record is None or record.instance is None or record.billing is Billing.gone:
            raise MendInput(
                f"Job {job.spec.id} is on no machine ({job.state.value}); what was downloaded is in {job.spec.folder}."
            )
        instance = record.instance
        status = context.retry(lambda: context.provider.status(instance))
        if status.state is not MachineState.running:
            raise LaunchError(
                f"The machine of job {job.spec.id} does not run ({status.detail}): `python -m launchers attach {job.launch}` moves "
                "the job to another."
            )
        guard = context.monitor.guard(context, record.label)
        return Lease.of_host(record, self._open_host(context, record, status), guard)

    def doubt(self, context: LaunchContext, lease: Lease) -> str | None:
        instance = lease.record.instance
        assert instance is not None
        try:
            status = context.provider.status(instance)
        except LaunchError as error:
            return str(error).rstrip(".")
        if status.state in (MachineState.running, MachineState.pending):
            return None
        if status.state is not MachineState.stopped:
            raise Preempted(f"the host of instance {instance} was lost ({status.detail})")
        left: float | None = None
        with contextlib.suppress(LaunchError):
            left = balance_of(context)
        if left is not None and left <= 0:
            raise Preempted(f"instance {instance} was stopped because the account is empty")
        is_outbid = lease.record.offer.spot and isinstance(context.provider, SpotBidding)
        raise Preempted(
            f"instance {instance} was {'outbid' if is_outbid else 'paused by the provider'} ({status.detail})"
        )

    def after_loss(
        self, context: LaunchContext, lease: Lease, job: str, excluded: Excluded, resumes: bool, blames: bool
    ) -> Lease | None:
        lease.link.close()
        again = self._resume(context, lease.record, job, excluded) if resumes else None
        if again is None:
            release(context, lease.record.label)
            if blames:
                excluded.add_host(lease.record.offer)
        return again

    def charge(
        self, context: LaunchContext, lease: Lease, job: JobSpec, status: JobStatus | None = None, is_alive: bool = True
    ) -> None:
        now, deadline = context.clock.now(), context.ledger.machine(lease.record.label).deadline
        context.ledger.charge(lease.record.label, now if is_alive or deadline is None else min(now, deadline))

    def stop_wait(self, phase: Phase, timing: Timing) -> float:
        running = timing.grace + OVER_S + 2 * timing.status
        waits = {Phase.creating: CREATE_S, Phase.idle: 0.0, Phase.setup: 0.0, Phase.running: running}
        return waits.get(phase, reserve(timing))

    def detach(self, context: LaunchContext, lease: Lease) -> None:
        context.monitor.forget(lease.record.label)
        lease.link.close()

    def release(self, context: LaunchContext, lease: Lease) -> None:
        if lease.guard.over is None:
            lease.link.close()
        release(context, lease.record.label)

    def close(self) -> None:
        """Nothing is shared."""

    # --- the terms of a machine

    def set_terms(self, context: LaunchContext, label: str, job: str) -> float:
        """A machine's deadline for its next job, by what is left to that job; returns the seconds it has, without the reserve."""
        record, now, settings = context.ledger.machine(label), context.clock.now(), context.settings
        guard = context.monitor.guard(context, label)
        if record.job not in (None, job):
            context.ledger.charge(label, now)  # until here it was the last job's
            record = context.ledger.machine(label)
        spent = context.ledger.job(job)
        left = [(settings.max_hours * 3600 - spent.seconds, MAX_HOURS)]
        if settings.max_cost is not None and record.price > 0:
            left.append(((settings.max_cost - spent.cost) / record.price * 3600, MAX_COST))
        seconds, guard.why = min(left)
        seconds = max(seconds - (now - (record.accounted or record.created)), 0.0)
        guard.asked, guard.deadline = None, now + seconds + reserve(context.timing)
        context.ledger.set_deadline(label, job, guard.deadline)
        return seconds

    def _tell_terms(self, context: LaunchContext, machine: Machine, label: str, job: str) -> None:
        """Tell the machine until when it may live; it ends itself if this client is gone by then."""
        left = self.set_terms(context, label, job)
        provider = context.provider
        destruct = vars(provider.self_destruct()) if isinstance(provider, SelfDestruct) else None
        seconds = left + min(context.timing.fetch, context.timing.idle)
        machine.lease({"seconds": seconds, "idle": context.timing.idle, "destruct": destruct})

    # --- pauses

    def _resume(self, context: LaunchContext, record: MachineRecord, job: str, excluded: Excluded) -> Lease | None:
        """A machine that was paused under its job, asked for again with its disk at no more than its old price.

        None when it can't be: the provider has no pauses, the account is empty, no card is free for it, or what came up
        is not what was rented (its host is excluded then). It exists as before then, and the caller releases it.
        """
        provider, label, instance = context.provider, record.label, record.instance
        if not isinstance(provider, Resumes) or instance is None:
            return None
        try:
            if context.retry(lambda: provider.status(instance)).state is not MachineState.stopped:
                return None
            left = balance_of(context)
            if left is not None and left <= 0:
                return None
            new = _ask_to_resume(context, provider, record)
            # Another container of the same disk: it has other host keys, and most likely another address.
            context.ledger.machine_replaced(label, new)
            context.say(label, f"resumed as instance {new}")
            return self.bring_up(context, label, job)
        except (Cancelled, Capped):
            return None
        except LaunchError as error:
            context.say(label, f"could not be resumed: {error}", logging.WARNING)
            if isinstance(error, BadMachine):
                excluded.add_host(record.offer)
            return None


def _ask_to_resume(context: LaunchContext, provider: Resumes, record: MachineRecord) -> str:
    """The machine's id once it is resumed, which may be a new one. An unanswered request is never repeated before its label was
    looked for: it may have been carried out, and then the old id means nothing any more.

    Raises:
        LaunchError: it is still paused, or gone.
    """
    instance = str(record.instance)
    problem: LaunchError = RetryLater("no time was left to ask")
    for _ in pauses(context.clock, context.timing.retry_first, context.timing.retry_total):
        try:
            return provider.resume(instance, record.offer.spot)
        except (OfferTaken, RetryLater) as error:
            found = find_by_label(context, record.label, LOOKS)
            if found is None or (found.state is MachineState.stopped and isinstance(error, OfferTaken)):
                raise
            if found.state is not MachineState.stopped:
                return found.instance
            instance, problem = found.instance, error
    raise problem


def _wait_until_running(context: LaunchContext, instance: str, guard: MachineDeadline) -> MachineStatus:
    end = context.clock.now() + context.timing.boot
    status: MachineStatus | None = None
    pause = min(context.timing.poll, FIRST_POLL_S)
    while context.clock.now() < end:
        with contextlib.suppress(RetryLater):
            status = context.provider.status(instance)
            if status.state is MachineState.running and status.addresses:
                return status
            if status.state in (MachineState.failed, MachineState.stopped, MachineState.gone):
                raise BadMachine(f"instance {instance} did not come up ({status.detail})")
        context.rest(pause, guard)
        pause = min(pause * 1.5, context.timing.poll)
    words = status.detail if status else "no answer"
    raise BadMachine(f"instance {instance} did not run after {context.timing.boot:.0f} s ({words})")


def _first_contact(context: LaunchContext, host: Host, instance: str, guard: MachineDeadline) -> Probe:
    """The probe of a machine whose ssh may come up later than its container."""
    end = context.clock.now() + context.timing.ssh
    while True:
        try:
            return host.probe()
        except Unreachable as error:
            if context.clock.now() >= end:
                raise BadMachine(
                    f"instance {instance} runs but accepted no ssh login for {context.timing.ssh:.0f} s ({error})"
                ) from None
            context.rest(min(context.timing.poll, LOGIN_PAUSE_S), guard)

"""Several providers as one capacity: each lease is at the one where the job is expected to cost least when it is asked for.

Knows no kind of provider: each place has its own capacity, which does everything once a lease is there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from launchers.capacity.base import Capacity, Excluded, Lease, machine_kind
from launchers.capacity.market import plan_for
from launchers.errors import LaunchError, MendInput, NoOffer, RetryLater
from launchers.host import JobStatus
from launchers.job import JobSpec
from launchers.ledger import JobRecord, MachineRecord
from launchers.lifecycle.deadlines import Phase, check_caps
from launchers.lifecycle.task import Task, forecast_of
from launchers.planning import Plan, reserve
from launchers.settings import RentalSettings, Timing

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext


class AnywhereCapacity:
    """A `Capacity` that chooses a provider for each lease."""

    keeps_jobs = False

    def __init__(self, capacities: Sequence[Capacity]) -> None:
        """`capacities`: those of the places of the launch."""
        self._capacities = tuple(capacities)

    def workers(self, jobs: int, machines: int) -> int:
        return min(jobs, machines)

    def kind_of(self, settings: RentalSettings) -> tuple[object, ...]:
        """What differs at any provider parts two jobs: which one a lease will be at is not known yet."""
        shared = {field.name for field in fields(RentalSettings)}
        own = {name: value for name, value in vars(settings).items() if name not in shared}
        return (*machine_kind(settings), tuple(settings.pass_environment), repr(own))

    def acquire(self, task: Task, excluded: Excluded) -> Lease:
        """As `Capacity.acquire`; each try asks all providers anew, so that the next best one may be anywhere."""
        context, forecast = task.context, forecast_of(task)
        problem: LaunchError | None = None
        for _ in range(context.timing.max_attempts):
            check_caps(context, task.job.id)
            plan = plan_for(context, forecast, excluded)
            if problem is not None and not plan.candidates:
                break
            best = plan.require(context.settings.max_cost, None)[0]
            name = best.offer.provider
            context.say(task.job.id, _why(plan))
            here = context.at(name)
            timing, settings = replace(here.timing, max_attempts=1), replace(here.settings, spot=best.offer.spot)
            inner = replace(task, context=replace(here, timing=timing, settings=settings))
            try:
                return here.capacity.acquire(inner, excluded)
            except (MendInput, RetryLater) as error:
                problem = error
                if (name, best.offer.id) in excluded.offers or (name, best.offer.host) in excluded.hosts:
                    continue  # another offer there may do
                context.say(task.job.id, f"{name} is left out: {error}", logging.WARNING)
                # A view of its own: what is no good there is noted for the whole launch all the same.
                excluded = replace(excluded, providers={**excluded.providers, name: str(error)})
        raise NoOffer(f"No machine after {context.timing.max_attempts} tries; the last problem: {problem}")

    def extend(self, context: LaunchContext, lease: Lease, job: str) -> None:
        here = context.at(lease.record.provider)
        here.capacity.extend(here, lease, job)

    def recover(
        self, context: LaunchContext, record: MachineRecord, jobs: Sequence[JobRecord], excluded: Excluded
    ) -> Lease | None:
        here = context.at(record.provider)
        return here.capacity.recover(here, record, jobs, excluded)

    def reach(self, context: LaunchContext, record: MachineRecord | None, job: JobRecord) -> Lease:
        if record is None:
            raise MendInput(
                f"Job {job.spec.id} is on no machine ({job.state.value}); what was downloaded is in {job.spec.folder}."
            )
        here = context.at(record.provider)
        return here.capacity.reach(here, record, job)

    def doubt(self, context: LaunchContext, lease: Lease) -> str | None:
        here = context.at(lease.record.provider)
        return here.capacity.doubt(here, lease)

    def after_loss(
        self, context: LaunchContext, lease: Lease, job: str, excluded: Excluded, resumes: bool, blames: bool
    ) -> Lease | None:
        here = context.at(lease.record.provider)
        return here.capacity.after_loss(here, lease, job, excluded, resumes, blames)

    def charge(
        self, context: LaunchContext, lease: Lease, job: JobSpec, status: JobStatus | None = None, is_alive: bool = True
    ) -> None:
        here = context.at(lease.record.provider)
        here.capacity.charge(here, lease, job, status, is_alive)

    def stop_wait(self, phase: Phase, timing: Timing) -> float:
        """Never asked of a lease, whose guard has the capacity of its own provider."""
        return reserve(timing)

    def detach(self, context: LaunchContext, lease: Lease) -> None:
        here = context.at(lease.record.provider)
        here.capacity.detach(here, lease)

    def release(self, context: LaunchContext, lease: Lease) -> None:
        here = context.at(lease.record.provider)
        here.capacity.release(here, lease)

    def close(self) -> None:
        for capacity in self._capacities:
            capacity.close()


def _why(plan: Plan) -> str:
    """The provider that is chosen and by how much, in words."""
    best = plan.candidates[0]
    others = [c for c in plan.candidates if c.offer.provider != best.offer.provider]
    kind = "spot" if best.offer.spot else "on-demand"
    text = f"{best.offer.provider} is the cheapest for this job (${best.cost:.2f}, {kind})"
    return f"{text}; next is {others[0].offer.provider} (${others[0].cost:.2f})" if others else text

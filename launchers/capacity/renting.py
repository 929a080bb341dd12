"""Renting, from an intent in the ledger to a lease. The only code that creates anything; `lifecycle/release.py` destroys.

Whatever happens between, the label written before the create call is looked for until the provider's own list settles it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from launchers.capacity.base import Excluded, Lease
from launchers.capacity.market import balance_of, plan_for
from launchers.errors import LaunchError, MendInput, NoOffer, OfferTaken, RetryLater, StillBilled
from launchers.job import Charging, Offer
from launchers.ledger import MachineRecord
from launchers.lifecycle.after_error import Act, Facts, Stage, after_error
from launchers.lifecycle.deadlines import Phase, check_caps
from launchers.lifecycle.release import LOOKS, find_by_label, release
from launchers.lifecycle.task import Task, forecast_of
from launchers.providers.base import CreateRequest, DirectSsh

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext

_register_lock = threading.Lock()


class Renter(Protocol):
    """A kind of capacity whose leases are rented on a market."""

    keeps_jobs: bool
    """See `Capacity`. What a create call without an answer has left is then ended, and not looked for."""

    def set_terms(self, context: LaunchContext, label: str, job: str) -> float:
        """Set the deadline of what is rented for a job; returns the seconds that the job has."""

    def bring_up(self, context: LaunchContext, label: str, job: str) -> Lease:
        """A lease of what was created, once it takes jobs.

        Raises:
            BadMachine: it is not what was paid for.
        """


def rent(task: Task, excluded: Excluded, renter: Renter) -> Lease:
    """Rent the best offer that comes up and is what was paid for, on the account of a job.

    Raises:
        NoOffer: nothing fits, or too many machines in a row were no good.
        Capped: the job or the launch has spent what it may.
        StillBilled: a machine that was no good could not be confirmed gone.
    """
    context, job, forecast = task.context, task.job.id, forecast_of(task)
    problem: LaunchError | None = None
    for _ in range(context.timing.max_attempts):
        check_caps(context, job)
        plan = plan_for(context, forecast, excluded)
        if problem is not None and not plan.candidates:
            break
        candidates = plan.require(context.settings.max_cost, balance_of(context))
        record = _intend(context, [candidate.offer for candidate in candidates], job)
        renter.set_terms(context, record.label, job)
        chosen = next(candidate for candidate in candidates if candidate.offer.id == record.offer.id)
        context.say(record.label, plan.expectation(chosen))
        try:
            return _rent_offer(task, record, renter)
        except LaunchError as error:
            facts = Facts(Stage.acquiring, keeps_jobs=renter.keeps_jobs)
            act = after_error(error, facts, context.settings).act
            if act is Act.pass_on:
                raise
            problem = error
            if act is Act.next_offer:
                excluded.add_offer(record.offer)
                context.say(context.launch, f"offer {record.offer.id} is not available: {error}")
            elif act is Act.next_host:
                excluded.add_host(record.offer)
                context.say(context.launch, f"host {record.offer.host} is excluded from now on: {error}")
            else:
                context.say(context.launch, f"trying again: {error}")
                context.rest(context.timing.poll)
    raise NoOffer(f"No machine after {context.timing.max_attempts} tries; the last problem: {problem}")


def _intend(context: LaunchContext, offers: list[Offer], job: str) -> MachineRecord:
    """The intent to rent the first offer that none of our own threads and processes holds; written before it is asked for."""
    provider = context.provider
    if isinstance(provider, DirectSsh):
        with _register_lock:
            context.retry(lambda: provider.register_key(context.keys.public), stoppable=True)
    taken = {machine.label for machine in context.retry(context.provider.list_mine, stoppable=True)}
    ledger, now = context.ledger, context.clock.now()
    record = ledger.intend_machine(
        context.launch, context.settings.api_url, offers, taken, job, now, context.provider.account
    )
    if record is None:
        raise NoOffer(
            f"All {len(offers)} offers that fit are reserved by other machines of this ledger: lower provider.machines, "
            "or raise provider.max_price."
        )
    return record


def _rent_offer(task: Task, record: MachineRecord, renter: Renter) -> Lease:
    context, label, offer = task.context, record.label, record.offer
    try:
        instance = _create(task, offer, label, renter.keeps_jobs)
        context.ledger.machine_created(label, instance)
        if isinstance(context.provider, DirectSsh):
            from launchers.transport import ssh

            context.clock.start(ssh.preload, "preload")
        what, price = offer.gpu or "a machine", f"${offer.price:.3f}/h"
        if offer.charging is Charging.nothing:
            context.say(label, f"jobs wait in the queue of {offer.provider} under the name {instance}")
        elif not offer.charging.while_idle:
            context.say(label, f"{offer.provider} application {instance}: {what}, about {price} for each running job")
        else:
            context.say(label, f"rented {what} as {offer.provider} instance {instance} at {price}")
        return renter.bring_up(context, label, task.job.id)
    except NeverAnswered as error:
        context.monitor.forget(label)  # nobody waits for it: it is looked for by its label
        raise OfferTaken(str(error)) from None
    except BaseException as error:
        try:
            # A plain refusal is believed after one look at the list.
            refused = isinstance(error, OfferTaken | MendInput)
            release(context, label, looks=1 if refused else LOOKS, refused=refused)
        except StillBilled as still:
            raise still from error
        raise


class NeverAnswered(LaunchError):
    """A create call that may have been carried out: its intent stays open, and is looked for again."""


def _create(task: Task, offer: Offer, label: str, keeps_jobs: bool) -> str:
    """One create call. When its answer is an error or never comes, the label tells whether it acted all the same."""
    context, provider = task.context, task.context.provider
    request = CreateRequest(
        offer, label, context.settings.image, context.settings.disk_gb, context.keys.public, context.settings.max_hours,
        task.snapshot, context.settings,
    )  # fmt: skip
    guard = context.monitor.guard(context, label)
    guard.phase = Phase.creating
    try:
        return provider.create(request)
    except RetryLater as error:
        if keeps_jobs:
            raise  # half an application is of no use: the caller ends what carries the label
        found = find_by_label(context, label, LOOKS)
        if found is None and error.may_have_acted:
            text = f"no answer to the create call of {label} ({str(error).rstrip('.')}): it may be billed; it is looked for"
            raise NeverAnswered(f"{text} and destroyed when it shows up") from error
        if found is None:
            raise OfferTaken(f"the provider did not rent it ({error})") from error
        context.say(label, f"the answer to the create call was lost; found it as instance {found.instance}")
        return found.instance
    finally:
        guard.phase = Phase.idle

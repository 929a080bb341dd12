"""One machine, from an intent in the ledger until it takes jobs. The only code that creates anything; `release.py` destroys.

Whatever happens between, the label written before the create call is looked for until the provider's own list settles it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field

from launchers.errors import (
    BadMachine,
    Cancelled,
    Capped,
    LaunchError,
    MendInput,
    NoOffer,
    OfferTaken,
    RetryLater,
    StillBilled,
    Unreachable,
)
from launchers.gpus import find_card
from launchers.host import Host, Probe
from launchers.job import MachineState, MachineStatus, Offer
from launchers.ledger import MachineRecord
from launchers.lifecycle.after_error import Act, Facts, Stage, after_error
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.deadlines import MAX_COST, MAX_HOURS, MAX_TOTAL_COST, MachineDeadline, Phase, is_over_total
from launchers.lifecycle.inspection import check_machine
from launchers.lifecycle.release import LOOKS, find_by_label, release
from launchers.planning import Forecast, Plan, make_plan, reserve
from launchers.providers.base import (
    CreateRequest,
    DirectSsh,
    KnowsBalance,
    Need,
    Provider,
    Resumes,
    SelfDestruct,
    Serverless,
)
from launchers.settings import RentalSettings
from launchers.snapshot import Snapshot

RATE_TOLERANCE = 1.05
"""Billed over quoted price above which a machine is given back."""
FIRST_POLL_S = 2.0
"""A machine whose image is there already runs within seconds: the first questions come closer than `timing.poll`."""
LOGIN_PAUSE_S = 0.5
"""Between two tries to log in to a machine that has just come up."""
_register_lock = threading.Lock()


@dataclass
class Lease:
    """A machine that is up and takes jobs."""

    record: MachineRecord
    host: Host
    guard: MachineDeadline


@dataclass
class Excluded:
    """What failed us in this launch."""

    hosts: set[str] = field(default_factory=set)
    offers: set[str] = field(default_factory=set)


def need_of(settings: RentalSettings) -> Need:
    """What the settings ask of the market.

    Raises:
        MendInput: no such card.
    """
    return Need(
        gpu=find_card(settings.gpu).name if settings.gpu else None,
        num_gpus=settings.num_gpus,
        gpu_memory_gib=settings.min_gpu_memory_gib if settings.gpu else 0.0,
        disk_gb=max(settings.disk_gb, settings.min_disk_gb),
        download_mbps=settings.min_download_mbps,
        region=settings.region,
        spot=settings.spot,
        max_price=settings.max_price,
        settings=settings,
    )


def plan_for(context: LaunchContext, forecast: Forecast, excluded: Excluded | None = None) -> Plan:
    """Today's offers, priced for a job. Creates nothing."""
    need = need_of(context.settings)
    offers = context.retry(lambda: context.provider.offers(need), stoppable=True)
    left = [offer for offer in offers if excluded is None or offer.id not in excluded.offers]
    return make_plan(need, left, forecast, frozenset(excluded.hosts if excluded else ()))


def balance_of(context: LaunchContext) -> float | None:
    """$ on the account, where the provider knows such a thing."""
    provider = context.provider
    return context.retry(provider.balance) if isinstance(provider, KnowsBalance) else None


def acquire(
    context: LaunchContext, forecast: Forecast, excluded: Excluded, job: str, snapshot: Snapshot | None = None
) -> Lease:
    """Rent the best machine that comes up and is what was paid for, on the account of a job.

    Raises:
        NoOffer: nothing fits, or too many machines in a row were no good.
        Capped: the job or the launch has spent what it may.
        StillBilled: a machine that was no good could not be confirmed gone.
    """
    problem: LaunchError | None = None
    for _ in range(context.timing.max_attempts):
        check_caps(context, job)
        plan = plan_for(context, forecast, excluded)
        if problem is not None and not plan.candidates:
            break
        candidates = plan.require(context.settings.max_cost, balance_of(context))
        record = _intend(context, [candidate.offer for candidate in candidates], job)
        chosen = next(candidate for candidate in candidates if candidate.offer.id == record.offer.id)
        context.say(record.label, plan.expectation(chosen))
        try:
            return _acquire_offer(context, record, job, snapshot)
        except LaunchError as error:
            facts = Facts(Stage.acquiring, keeps_jobs=record.offer.per_job)
            act = after_error(error, facts, context.settings).act
            if act is Act.pass_on:
                raise
            problem = error
            if act is Act.next_offer:
                excluded.offers.add(record.offer.id)
                context.say(context.launch, f"offer {record.offer.id} is not available: {error}")
            elif act is Act.next_host:
                excluded.hosts.add(record.offer.host)
                context.say(context.launch, f"host {record.offer.host} is excluded from now on: {error}")
            else:
                context.say(context.launch, f"trying again: {error}")
                context.rest(context.timing.poll)
    raise NoOffer(f"No machine could be had after {context.timing.max_attempts} tries; the last problem: {problem}")


def check_caps(context: LaunchContext, job: str) -> None:
    """
    Raises:
        Capped: nothing more may be rented for this job.
    """
    record, settings = context.ledger.job(job), context.settings
    if settings.max_cost is not None and record.cost >= settings.max_cost:
        raise Capped(MAX_COST)
    if record.seconds >= settings.max_hours * 3600:
        raise Capped(MAX_HOURS)
    if is_over_total(context):
        raise Capped(MAX_TOTAL_COST)


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
            f"All {len(offers)} offers that fit are held by other machines of this ledger: lower provider.machines, "
            "or raise provider.max_price."
        )
    set_terms(context, record.label, job)
    return record


def _acquire_offer(context: LaunchContext, record: MachineRecord, job: str, snapshot: Snapshot | None) -> Lease:
    label, offer = record.label, record.offer
    try:
        instance = _create(context, offer, label, snapshot)
        context.ledger.machine_created(label, instance)
        if isinstance(context.provider, DirectSsh):
            from launchers.transport import ssh

            context.clock.start(ssh.preload, "preload")
        what, price = offer.gpu or "a machine", f"${offer.price:.3f}/h"
        if offer.per_job:
            context.say(label, f"{offer.provider} application {instance}: {what}, about {price} for each running job")
        else:
            context.say(label, f"rented {what} as {offer.provider} instance {instance} at {price}")
        return _bring_up(context, label, offer, job)
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


def _create(context: LaunchContext, offer: Offer, label: str, snapshot: Snapshot | None) -> str:
    """One create call. When its answer is an error or never comes, the label tells whether it acted all the same."""
    provider = context.provider
    request = CreateRequest(
        offer, label, context.settings.image, context.settings.disk_gb, context.keys.public, context.settings.max_hours,
        snapshot, context.settings,
    )  # fmt: skip
    guard = context.monitor.guard(context, label, offer.per_job)
    guard.phase = Phase.creating
    try:
        return provider.create(request)
    except RetryLater as error:
        if isinstance(provider, Serverless):
            raise  # half an application is of no use: the caller ends what carries the label
        found = find_by_label(context, label, LOOKS)
        if found is None and error.may_have_acted:
            text = f"no answer to the create call of {label} ({str(error).rstrip('.')}): it may be billed, and is looked for"
            raise NeverAnswered(f"{text}, and destroyed when it shows up") from error
        if found is None:
            raise OfferTaken(f"the provider did not rent it ({error})") from error
        context.say(label, f"the answer to the create call was lost; found it as instance {found.instance}")
        return found.instance
    finally:
        guard.phase = Phase.idle


def resume(context: LaunchContext, record: MachineRecord, job: str, excluded: Excluded) -> Lease | None:
    """A machine that was paused under its job, taken up again with its disk at no more than its old price.

    None when it can't be: the provider has no pauses, the account is empty, there is no card free for it, or what came up
    is not what was rented (its host is excluded then). It exists as before then, and somebody must give it back.
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
        try:
            new = context.retry(lambda: provider.resume(instance, record.offer.spot))
        except (OfferTaken, RetryLater):
            found = find_by_label(context, label, LOOKS)
            if found is None or found.state is MachineState.stopped:
                raise
            new = found.instance
        # Another container of the same disk: it has other host keys, and most likely another address.
        context.ledger.machine_replaced(label, new)
        context.say(label, f"resumed as instance {new}")
        return _bring_up(context, label, record.offer, job)
    except (Cancelled, Capped):
        return None
    except LaunchError as error:
        context.say(label, f"could not be resumed: {error}", logging.WARNING)
        if isinstance(error, BadMachine):
            excluded.hosts.add(record.offer.host)
        return None


def _bring_up(context: LaunchContext, label: str, offer: Offer, job: str) -> Lease:
    record = context.ledger.machine(label)
    assert record.instance is not None
    provider, instance = context.provider, record.instance
    guard = context.monitor.guard(context, label, offer.per_job)
    if isinstance(provider, Serverless):
        return Lease(record, context.open_host(context, record, None), guard)
    if isinstance(provider, DirectSsh):
        context.retry(lambda: provider.authorize(instance, context.keys.public), stoppable=True)
    status = _wait_until_running(context, instance, guard)
    if offer.spot and not status.spot:
        raise BadMachine(f"instance {instance} is on-demand although a spot machine was asked for")
    if not status.price <= offer.price * RATE_TOLERANCE:
        raise BadMachine(f"instance {instance} is billed at ${status.price:.3f}/h, quoted was ${offer.price:.3f}/h")
    # a market that can't tell what it bills now has at least told what it would
    context.ledger.set_price(label, status.price or offer.price)
    host = context.open_host(context, context.ledger.machine(label), status)
    guard.cut = host.cut
    try:
        check_machine(_first_contact(context, host, instance, guard), context.settings)
        extend_lease(context, host, label, job)
    except BaseException:
        host.close()
        raise
    context.say(label, "up and checked")
    return Lease(context.ledger.machine(label), host, guard)


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
                    f"instance {instance} runs but let nobody in for {context.timing.ssh:.0f} s ({error})"
                ) from None
            context.rest(min(context.timing.poll, LOGIN_PAUSE_S), guard)


def set_terms(context: LaunchContext, label: str, job: str) -> float:
    """A machine's deadline for the next job, by what is left to that job; returns the seconds it has, without the reserve."""
    record, now, settings = context.ledger.machine(label), context.clock.now(), context.settings
    guard = context.monitor.guard(context, label, record.offer.per_job)
    if record.offer.per_job:
        return settings.max_hours * 3600  # billed by what jobs run: each is ended by its own meter
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


def extend_lease(context: LaunchContext, host: Host, label: str, job: str) -> None:
    """Tell the machine until when it may live; it ends itself if this client is gone by then."""
    left = set_terms(context, label, job)
    provider: Provider = context.provider
    destruct = vars(provider.self_destruct()) if isinstance(provider, SelfDestruct) else None
    seconds = left + min(context.timing.fetch, context.timing.idle)
    host.lease({"seconds": seconds, "idle": context.timing.idle, "destruct": destruct})

"""One machine, from an intent in the ledger to confirmed gone. The only code that creates or destroys anything.

Whatever happens between, the label written before the create call is looked for until the provider's own list settles it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Any

from launchers.capsule import Capsule
from launchers.clock import pauses
from launchers.errors import (
    BadMachine,
    LaunchError,
    NoOffer,
    OfferTaken,
    RetryLater,
    StillBilled,
    Unreachable,
)
from launchers.gpus import find_card
from launchers.host import Host
from launchers.job import Billing, MachineState, MachineStatus, Offer, machine_label
from launchers.ledger import MachineRecord
from launchers.lifecycle.office import Office
from launchers.plan import Forecast, Plan, make_plan
from launchers.providers.base import (
    CreateRequest,
    DirectSsh,
    KnowsBalance,
    Need,
    Provider,
    Resumes,
    SelfDestruct,
    Serverless,
    stop_command,
)
from launchers.settings import RentalSettings

RATE_TOLERANCE = 1.05
"""Billed over quoted price above which a machine is given back."""
MIN_SHM_MB = 64
LOOKS = 3
"""Times the provider's list is read before a label counts as absent: it may lag behind a create call."""
FIRST_POLL_S = 2.0
"""A machine whose image is there already runs within seconds: the first questions come closer than `timing.poll`."""
LOGIN_PAUSE_S = 0.5
"""Between two tries to log in to a machine that has just come up."""
_DRIVER_FOR_CUDA = ((12.8, 570), (12.4, 550), (12.1, 530), (11.8, 520))
GIVE_BACK_S = 1800.0
"""Results are fetched after the last hour that was asked for: the machine's own end comes this much later."""


@dataclass
class Rented:
    """A machine that is up and takes jobs."""

    record: MachineRecord
    host: Host
    accounted: float
    """Until when its cost was put on jobs, seconds since the epoch."""


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
        min_reliability=getattr(settings, "min_reliability", 0.0),
        min_cuda=getattr(settings, "min_cuda", None),
        bid_factor=getattr(settings, "bid_factor", 1.0),
    )


def plan_for(office: Office, forecast: Forecast, excluded: Excluded | None = None) -> Plan:
    """Today's offers, priced for a job. Creates nothing."""
    need = need_of(office.settings)
    offers = office.retry(lambda: office.provider.offers(need), stoppable=True)
    left = [offer for offer in offers if excluded is None or offer.id not in excluded.offers]
    return make_plan(need, left, forecast, frozenset(excluded.hosts if excluded else ()))


def balance_of(office: Office) -> float | None:
    """$ on the account, where the provider knows such a thing."""
    provider = office.provider
    return office.retry(provider.balance) if isinstance(provider, KnowsBalance) else None


def rent(office: Office, forecast: Forecast, excluded: Excluded, capsule: Capsule | None = None) -> Rented:
    """Rent the best machine that comes up and is what was paid for.

    Raises:
        NoOffer: nothing fits, or too many machines in a row were no good.
        StillBilled: a machine that was no good could not be confirmed gone.
    """
    problem: LaunchError | None = None
    for _ in range(office.timing.max_attempts):
        plan = plan_for(office, forecast, excluded)
        if problem is not None and not plan.candidates:
            break
        offer = plan.require(office.settings.max_cost, balance_of(office))[0].offer
        try:
            return _rent_offer(office, offer, capsule)
        except OfferTaken as error:
            problem = error
            excluded.offers.add(offer.id)
            office.say(office.launch, f"offer {offer.id} could not be had: {error}")
        except (BadMachine, RetryLater) as error:
            problem = error
            if isinstance(office.provider, Serverless):
                # There is no other host to go to.
                office.say(office.launch, f"trying again: {error}")
                office.rest(office.timing.poll)
                continue
            excluded.hosts.add(offer.host)
            office.say(office.launch, f"host {offer.host} is left out from now on: {error}")
    raise NoOffer(f"No machine could be had after {office.timing.max_attempts} tries; the last problem: {problem}")


def _rent_offer(office: Office, offer: Offer, capsule: Capsule | None) -> Rented:
    label = _free_label(office)
    office.ledger.intend_machine(
        label, office.launch, office.settings.api_url, offer, office.clock.now(), office.provider.account
    )
    try:
        instance = _create(office, offer, label, capsule)
        office.ledger.update_machine(label, instance=instance, billing=Billing.billed)
        if isinstance(office.provider, DirectSsh):
            from launchers.transport import ssh

            threading.Thread(target=ssh.preload, daemon=True).start()
        what, price = offer.gpu or "a machine", f"${offer.price:.3f}/h"
        if offer.per_job:
            office.say(label, f"{offer.provider} application {instance}: {what}, about {price} for each running job")
        else:
            office.say(label, f"rented {what} as {offer.provider} instance {instance} at {price}")
        return _bring_up(office, label, offer)
    except BaseException as error:
        try:
            # A plain refusal is believed after one look at the list.
            give_back(office, label, looks=1 if isinstance(error, OfferTaken) else LOOKS)
        except StillBilled as still:
            raise still from error
        raise


def _free_label(office: Office) -> str:
    """A label that nothing on the account carries, whoever made it."""
    taken = {machine.label for machine in office.retry(office.provider.list_mine)}
    number = len(office.ledger.machines(office.launch))
    while True:
        label = machine_label(office.ledger.client, office.launch, number)
        if label not in taken and all(m.label != label for m in office.ledger.machines(office.launch)):
            return label
        number += 1


def _create(office: Office, offer: Offer, label: str, capsule: Capsule | None) -> str:
    """One create call. When its answer is an error or never comes, the label tells whether it acted all the same."""
    provider = office.provider
    if isinstance(provider, DirectSsh):
        office.retry(lambda: provider.register_key(office.keys.public))
    request = CreateRequest(
        offer, label, office.settings.image, office.settings.disk_gb, office.keys.public, office.settings.max_hours,
        capsule, office.settings,
    )  # fmt: skip
    try:
        return provider.create(request)
    except RetryLater as error:
        if isinstance(provider, Serverless):
            raise  # half an application is of no use: the caller ends what carries the label
        found = find_by_label(office, label, LOOKS)
        if found is None:
            raise OfferTaken(f"the provider did not rent it ({error})") from error
        office.say(label, f"the answer to the create call was lost; found it as instance {found.instance}")
        return found.instance


def resume(office: Office, record: MachineRecord, accounted: float, excluded: Excluded) -> Rented | None:
    """A machine that was paused under its job, taken up again with its disk at no more than its old price.

    None when it can't be: the provider has no pauses, the account is empty, there is no card free for it, or what came up
    is not what was rented (its host is excluded then). It exists as before then, and somebody must give it back.
    """
    provider, label, instance = office.provider, record.label, record.instance
    if not isinstance(provider, Resumes) or instance is None:
        return None
    try:
        if office.retry(lambda: provider.status(instance)).state is not MachineState.stopped:
            return None
        left = balance_of(office)
        if left is not None and left <= 0:
            return None
        try:
            new = office.retry(lambda: provider.resume(instance, record.offer.spot))
        except (OfferTaken, RetryLater):
            found = find_by_label(office, label, LOOKS)
            if found is None or found.state is MachineState.stopped:
                raise
            new = found.instance
        # Another container of the same disk: it has other host keys, and most likely another address.
        office.ledger.update_machine(label, instance=new, host_key=None)
        office.say(label, f"resumed as instance {new}")
        rented = _bring_up(office, label, record.offer)
    except LaunchError as error:
        office.say(label, f"could not be resumed: {error}", logging.WARNING)
        if isinstance(error, BadMachine):
            excluded.hosts.add(record.offer.host)
        return None
    rented.accounted = accounted
    return rented


def find_by_label(office: Office, label: str, looks: int) -> MachineStatus | None:
    """The machine with a label; looks more than once, since a list may lag behind a create call."""
    for look in range(looks):
        machines = office.retry(office.provider.list_mine)
        found = next((machine for machine in machines if machine.label == label), None)
        if found is not None:
            return found
        if look + 1 < looks:
            office.clock.sleep(office.timing.poll)
    return None


def _bring_up(office: Office, label: str, offer: Offer) -> Rented:
    record = office.ledger.machine(label)
    assert record.instance is not None
    provider, instance = office.provider, record.instance
    if isinstance(provider, Serverless):
        return Rented(record, office.open_host(office, record, None), office.clock.now())
    if isinstance(provider, DirectSsh):
        office.retry(lambda: provider.authorize(instance, office.keys.public))
    status = _wait_until_running(office, instance)
    if offer.spot and not status.spot:
        raise BadMachine(f"instance {instance} is on-demand although a spot machine was asked for")
    if status.price > offer.price * RATE_TOLERANCE:
        raise BadMachine(f"instance {instance} is billed at ${status.price:.3f}/h, quoted was ${offer.price:.3f}/h")
    # a market that can't tell what it bills now has at least told what it would
    office.ledger.update_machine(label, price=status.price or offer.price)
    host = office.open_host(office, office.ledger.machine(label), status)
    try:
        _check_machine(_first_contact(office, host, instance), office.settings)
        extend_lease(office, host, label)
    except BaseException:
        host.close()
        raise
    office.say(label, "up and checked")
    return Rented(office.ledger.machine(label), host, office.ledger.machine(label).created)


def _wait_until_running(office: Office, instance: str) -> MachineStatus:
    end = office.clock.now() + office.timing.boot
    status: MachineStatus | None = None
    pause = min(office.timing.poll, FIRST_POLL_S)
    while office.clock.now() < end:
        with contextlib.suppress(RetryLater):
            status = office.provider.status(instance)
            if status.state is MachineState.running and status.addresses:
                return status
            if status.state in (MachineState.failed, MachineState.stopped, MachineState.gone):
                raise BadMachine(f"instance {instance} did not come up ({status.detail})")
        office.rest(pause)
        pause = min(pause * 1.5, office.timing.poll)
    words = status.detail if status else "no answer"
    raise BadMachine(f"instance {instance} did not run after {office.timing.boot:.0f} s ({words})")


def _first_contact(office: Office, host: Host, instance: str) -> dict[str, Any]:
    """The probe of a machine whose ssh may come up later than its container."""
    end = office.clock.now() + office.timing.ssh
    while True:
        try:
            return host.probe()
        except Unreachable as error:
            if office.clock.now() >= end:
                raise BadMachine(
                    f"instance {instance} runs but let nobody in for {office.timing.ssh:.0f} s ({error})"
                ) from None
            office.rest(min(office.timing.poll, LOGIN_PAUSE_S))


def _check_machine(probe: dict[str, Any], settings: RentalSettings) -> None:
    """Raise unless the machine is the one that was paid for."""
    if probe["disk_free_gb"] < settings.min_disk_gb:
        raise BadMachine(
            f"it has {probe['disk_free_gb']:.0f} GB free, less than provider.min_disk_gb {settings.min_disk_gb}"
        )
    if not settings.check_gpu or not settings.gpu:
        return
    if probe["shm_free_mb"] < MIN_SHM_MB:
        raise BadMachine(
            f"its shared memory has {probe['shm_free_mb']:.0f} MB, less than data loaders need ({MIN_SHM_MB})"
        )
    cards = probe["cards"]
    if not cards:
        raise BadMachine("nvidia-smi finds no card on it")
    wanted = find_card(settings.gpu)
    if len(cards) < settings.num_gpus:
        raise BadMachine(f"it has {len(cards)} cards, paid for were {settings.num_gpus}")
    name, memory_mib, driver = (cards[0] + ["", "", ""])[:3]
    plain = wanted.name.replace(" 80GB", "").replace("RTX ", "").lower()
    if (
        plain.replace(" ", "") not in name.lower().replace(" ", "")
        or float(memory_mib or 0) / 1024 < wanted.memory_gib - 1
    ):
        raise BadMachine(f"its card is {name} with {memory_mib} MiB, paid for was {wanted.name}")
    needed = next((d for cuda, d in _DRIVER_FOR_CUDA if (getattr(settings, "min_cuda", None) or 0) >= cuda), 0)
    if driver and int(driver.split(".")[0]) < needed:
        raise BadMachine(
            f"its driver {driver} is too old for CUDA {getattr(settings, 'min_cuda', None)} (needs {needed})"
        )


def extend_lease(office: Office, host: Host, label: str) -> None:
    """Tell the machine until when it may live; it ends itself if this client is gone by then."""
    record = office.ledger.machine(label)
    left = record.created + office.settings.max_hours * 3600 - office.clock.now()
    provider: Provider = office.provider
    destruct = vars(provider.self_destruct()) if isinstance(provider, SelfDestruct) else None
    seconds = max(left, 0.0) + min(GIVE_BACK_S, office.timing.idle)
    host.lease({"seconds": seconds, "idle": office.timing.idle, "destruct": destruct})


def give_back(office: Office, label: str, looks: int = LOOKS) -> None:
    """End a rental and see it gone from the provider's own list. Never interrupted by a stop; a second call does nothing.

    Raises:
        StillBilled: it could not be confirmed gone; the ledger says `billing`.
    """
    record = office.ledger.machine(label)
    if record.billing is Billing.gone:
        return
    problem = "the provider still lists it"
    for _ in pauses(office.clock, office.timing.retry_first, office.timing.retry_total):
        try:
            if record.instance is None:
                found = find_by_label(office, label, looks)
                if found is None:
                    return _mark_gone(office, record)
                office.ledger.update_machine(label, instance=found.instance, billing=Billing.billed)
                record = replace(record, instance=found.instance)
            assert record.instance is not None
            office.provider.destroy(record.instance)
            left = [m for m in office.provider.list_mine() if record.instance == m.instance or label == m.label]
            if not left:
                return _mark_gone(office, record)
            if left[0].instance != record.instance:  # resumed under a new id that nobody heard of
                office.ledger.update_machine(label, instance=left[0].instance)
                record = replace(record, instance=left[0].instance)
            problem = "the provider still lists it"
        except LaunchError as error:
            problem = str(error).rstrip(".")
    office.ledger.update_machine(label, billing=Billing.billing, note=problem)
    command = stop_command(record.provider, record.instance or label)
    text = (
        f"STILL BILLED: {record.provider} instance {record.instance or label} could not be confirmed gone ({problem}); it costs "
        f"${record.price:.3f} per hour. Stop it with `{command}`, or run `python -m launchers reap`."
    )
    office.say(label, text, logging.ERROR)
    raise StillBilled(text)


def _mark_gone(office: Office, record: MachineRecord) -> None:
    now = office.clock.now()
    office.ledger.update_machine(record.label, billing=Billing.gone, ended=now)
    if record.instance is not None:
        office.say(record.label, f"confirmed gone after {(now - record.created) / 60:.1f} min, ${record.cost(now):.4f}")

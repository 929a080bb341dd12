"""What a provider offers for a job, and what is on the account. Creates nothing."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from launchers.capacity.base import Excluded
from launchers.errors import Cancelled, LaunchError, MendInput, NoOffer, RetryLater
from launchers.gpus import find_card
from launchers.planning import Forecast, Plan, make_plan, rank_all
from launchers.providers.base import KnowsBalance, Need
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext

PATIENCE_S = 20.0
"""How long one of several providers is asked again before it is left out."""


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
    """Today's offers, priced for a job; of all providers where a launch may rent at several. Creates nothing.

    Raises:
        RetryLater: no provider has answered.
    """
    excluded = excluded or Excluded()
    if context.places:
        return _plan_anywhere(context, forecast, excluded)
    need = need_of(context.settings)
    offers = context.retry(lambda: context.provider.offers(need), stoppable=True)
    left = [offer for offer in offers if (offer.provider, offer.id) not in excluded.offers]
    return make_plan(need, left, forecast, excluded.hosts_of(context.provider.name))


def _plan_anywhere(context: LaunchContext, forecast: Forecast, excluded: Excluded) -> Plan:
    """All providers are asked at once. One that does not answer is left out: the others have machines."""
    names = [name for name in context.split(context.settings).settings if name in context.places]
    patient = replace(context.timing, retry_total=min(context.timing.retry_total, PATIENCE_S))
    plans: dict[str, Plan] = {}
    balances: dict[str, float] = {}
    problems: dict[str, Exception] = {}

    def ask(name: str, done: threading.Event) -> None:
        try:
            here = replace(context.at(name), timing=patient)
            plan, balance = plan_for(here, forecast, excluded), balance_of(here)
            plans[name] = plan
            if balance is not None:
                balances[name] = balance
        except Exception as error:  # told or raised by who asked
            problems[name] = error
        finally:
            done.set()

    asked = {name: threading.Event() for name in names if name not in excluded.providers}
    for name, done in asked.items():
        context.clock.start(partial(ask, name, done), f"ask-{name}")
    for done in asked.values():
        context.clock.wait(done)
    for error in problems.values():
        if isinstance(error, Cancelled) or not isinstance(error, LaunchError):
            raise error
    left_out = {**context.left_out, **{name: str(error) for name, error in problems.items()}}
    left_out |= {name: why for name, why in excluded.providers.items() if name in names}
    if not plans:
        said = " ".join(f"{name}: {why}" for name, why in left_out.items())
        kind = NoOffer if not problems or any(isinstance(e, MendInput) for e in problems.values()) else RetryLater
        raise kind(f"No provider is left to choose from. {said}")
    # in the order of the settings, whoever answered first
    return rank_all(
        {name: plans[name] for name in names if name in plans}, left_out, hours_left=_hours_left(context), balances=balances
    )  # fmt: skip


def _hours_left(context: LaunchContext) -> float | None:
    """Until the launch should be done, where its settings say when."""
    hours: float | None = getattr(context.settings, "deadline_hours", None)
    began = context.ledger.began(context.launch)
    return hours if hours is None or began is None else hours - (context.clock.now() - began) / 3600


def balance_of(context: LaunchContext) -> float | None:
    """$ on the account, where the provider knows such a thing."""
    provider = context.provider
    return context.retry(provider.balance) if isinstance(provider, KnowsBalance) else None

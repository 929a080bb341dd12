"""What a provider offers for a job, and what is on the account. Creates nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.capacity.base import Excluded
from launchers.gpus import find_card
from launchers.planning import Forecast, Plan, make_plan
from launchers.providers.base import KnowsBalance, Need
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.lifecycle.context import LaunchContext


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

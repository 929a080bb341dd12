"""Modal's cards and list prices. Modal publishes no prices through its API before a run, so this table is an estimate's base.

After https://modal.com/pricing, $ per second of one card, core or GiB. The rates of H100, A100 80GB, L40S, T4, L4 and a core
were found published in May and June 2026; the others were not checked. Look there before a long run.
"""

from __future__ import annotations

from launchers.gpus import CARDS, find_card
from launchers.job import Charging, JobSpec, Offer
from launchers.providers.base import Need
from launchers.providers.modal import worker
from launchers.providers.modal.settings import ModalSettings

DATED = "May 2026"
SOURCE = "https://modal.com/pricing"
GPU_PER_SECOND = {
    "T4": 0.000164, "L4": 0.000222, "A10": 0.000306, "L40S": 0.000542, "A100": 0.000583, "A100 80GB": 0.000694,
    "RTX PRO 6000": 0.000842, "H100": 0.001097, "H200": 0.001261, "B200": 0.001736,
}  # fmt: skip
CORE_PER_SECOND = 0.0000131
GIB_PER_SECOND = 0.00000222
ASSUMED_CORES = 4.0
ASSUMED_GIB = 16.0
"""What a job is taken to use of them: they are billed by use, at least by what was reserved."""
REGION_FACTOR = 1.75
"""Naming a region costs more, 1.5 to 1.75 times by what was published in June 2026; the larger, so that caps hold."""

_NAMES = {"A100": "A100-40GB", "A100 80GB": "A100-80GB", "RTX PRO 6000": "RTX-PRO-6000"}
MOST_CARDS = 8
_FEWER = {"A10": 4}
DISK_GB = 512.0
"""Every container has it; more is asked for with provider.disk_gb."""
ASSUMED_MBPS = 5000.0


def card_name(gpu: str) -> str:
    """Modal's name of a card."""
    name = find_card(gpu).name
    return _NAMES.get(name, name)


def most_cards(gpu: str) -> int:
    """Of one container."""
    return _FEWER.get(find_card(gpu).name, MOST_CARDS)


def gpu_argument(gpu: str | None, count: int, fallback: list[str]) -> str | list[str] | None:
    """What `gpu=` takes: one card with its count, or several in the order they may be taken."""
    if gpu is None:
        return None
    names = [f"{card_name(card)}:{count}" for card in (gpu, *fallback)]
    return names if len(names) > 1 else names[0]


def hourly(gpu: str | None, count: int, region: str | None = None) -> float:
    """$ per hour of one running container, cores and memory as assumed above."""
    cards = GPU_PER_SECOND[find_card(gpu).name] * count if gpu else 0.0
    rest = ASSUMED_CORES * CORE_PER_SECOND + ASSUMED_GIB * GIB_PER_SECOND
    return (cards + rest) * 3600 * (REGION_FACTOR if region else 1.0)


def offers(need: Need) -> list[Offer]:
    """The price list as offers: each card is always "on the market", whether one is free is seen at the start."""
    wanted: list[str | None] = [find_card(need.gpu).name] if need.gpu else [None, *GPU_PER_SECOND]
    found = []
    memory = {card.name: card.memory_gib for card in CARDS}
    for card in wanted:
        if card is None or card in GPU_PER_SECOND:
            count = need.num_gpus if card else 1
            name = f"{card_name(card)}:{count}" if card else "CPU"
            found.append(
                Offer(
                    provider="modal",
                    id=name,
                    host=name,
                    gpu=card,
                    num_gpus=need.num_gpus,
                    gpu_memory_gib=memory[card] if card else 0.0,
                    price=hourly(card, count, need.region),
                    spot=False,
                    disk_gb=max(DISK_GB, need.disk_gb),
                    download_mbps=ASSUMED_MBPS,
                    upload_mbps=ASSUMED_MBPS,
                    reliability=1.0,
                    region=need.region or "any",
                    many=True,
                    charging=Charging.job,
                )
            )
    return found


def cap_of(settings: ModalSettings, job: JobSpec) -> tuple[float, str]:
    """Seconds after which the container ends a job by itself, and why: it may have no client that looks at the meter."""
    hours, cost = float(job.settings["max_hours"]), job.settings["max_cost"]
    price = hourly(settings.gpu, settings.num_gpus, settings.region)
    if cost is not None and cost / price < hours:
        return cost / price * 3600, worker.MAX_COST
    return hours * 3600, worker.MAX_HOURS

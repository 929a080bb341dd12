"""JarvisLabs' public price list, for people without an account. $ per card and hour of https://jarvislabs.ai/pricing."""

from __future__ import annotations

from launchers.gpus import CARDS
from launchers.job import Offer
from launchers.providers.base import Need
from launchers.providers.jarvis import mapping
from launchers.registry import PriceList

SOURCE = "https://jarvislabs.ai/pricing"
PER_HOUR = {
    "L4": 0.44, "A30": 0.41, "A100": 0.89, "A100 80GB": 1.49, "RTX PRO 6000": 1.89, "H100": 2.69, "H200": 3.99,
}  # fmt: skip
"""On demand; spot prices are only in the catalog of an account."""
MOST_CARDS = 8


def price_list(need: Need) -> PriceList:
    """The card that is asked for, or all of them; where it is not sold, all as substitutes."""
    memory = {card.name: card.memory_gib for card in CARDS}
    named = [card for card in PER_HOUR if need.gpu in (None, card)]
    offers = [
        Offer(
            provider="jarvis",
            id=f"list/{card}",
            host=f"list/{card}",
            gpu=card,
            num_gpus=min(need.num_gpus, MOST_CARDS),
            gpu_memory_gib=memory[card],
            price=round(PER_HOUR[card] * need.num_gpus + mapping.storage_price(need.disk_gb), 4),
            spot=False,
            disk_gb=mapping.UNLIMITED_DISK_GB,
            download_mbps=mapping.ASSUMED_MBPS,
            upload_mbps=mapping.ASSUMED_MBPS,
            reliability=0.0,
            region="any",
            many=True,
            substitute=not named,
        )
        for card in named or PER_HOUR
    ]
    return PriceList(tuple(offers), mapping.STORAGE_AS_OF, SOURCE)

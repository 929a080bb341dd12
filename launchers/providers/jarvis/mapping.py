"""JarvisLabs' words into ours and back: catalog rows, states, requests. Pure; no SDK.

Units on the wire: card memory in GB as text, prices per card and hour in the account's currency, storage in GB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from launchers.errors import MendInput
from launchers.gpus import find_card
from launchers.job import MachineState, Offer
from launchers.providers.base import Need

STORAGE_PER_GB_MONTH = 0.10
"""$; from the public price page, since no call tells it. Billed on top of the card, also while paused."""
STORAGE_AS_OF = "September 2026"
HOURS_PER_MONTH = 730
ASSUMED_MBPS = 500.0
"""JarvisLabs publishes no rates of its network; only the expected hours of transfers depend on it."""
UNLIMITED_DISK_GB = 2000.0
NAME_LENGTH = 40

_AS_GOOD = {"A100": ("A100 80GB",)}
"""Cards that do for another."""


def card_of(gpu_type: str | None) -> str | None:
    """Our name of a card as JarvisLabs calls it."""
    if not gpu_type:
        return None
    try:
        return find_card(gpu_type).name
    except MendInput:
        return gpu_type


def storage_price(disk_gb: float) -> float:
    """$ per hour."""
    return disk_gb * STORAGE_PER_GB_MONTH / HOURS_PER_MONTH


def price_of(row: Any, num_gpus: int, disk_gb: float, spot: bool) -> float | None:
    """$ per hour of a catalog row for that many cards, storage included; None when it is not sold that way."""
    per_card = row.spot_price if spot else row.price_per_hour
    return None if per_card is None else round(float(per_card) * num_gpus + storage_price(disk_gb), 4)


def offers_of_rows(rows: Sequence[Any], need: Need, codes: dict[str, str]) -> list[Offer]:
    """The rows with the wanted card, each as it is and as spot; where no row has it, all rows, as substitutes."""
    containers = [row for row in rows if row.workload_type in (None, "container")]
    wanted = None if need.gpu is None else (need.gpu, *_AS_GOOD.get(need.gpu, ()))
    named = [row for row in containers if wanted is None or card_of(row.gpu_type) in wanted]
    found = []
    for row in named or containers:
        for spot in (False, True):
            offer = _offer(row, need, codes, spot, substitute=not named)
            if offer is not None:
                found.append(offer)
    return found


def _offer(row: Any, need: Need, codes: dict[str, str], spot: bool, substitute: bool) -> Offer | None:
    price = price_of(row, need.num_gpus, need.disk_gb, spot)
    if price is None:
        return None
    free = row.spot_free_devices if spot else (row.effective_num_free_devices or row.num_free_devices)
    if row.region == "europe-01":
        free = min(free, 1)
    memory = float(row.vram or 0)
    place = f"{codes.get(row.region, row.region)}/{row.gpu_type}{'/spot' if spot else ''}"
    return Offer(
        provider="jarvis",
        id=place,
        host=place,
        gpu=card_of(row.gpu_type),
        num_gpus=min(int(free), need.num_gpus),
        gpu_memory_gib=memory,
        price=price,
        spot=spot,
        disk_gb=UNLIMITED_DISK_GB,
        download_mbps=ASSUMED_MBPS,
        upload_mbps=ASSUMED_MBPS,
        reliability=0.0,
        region=f"{codes.get(row.region, '')} {row.region}".strip(),
        price_without_disk=round(price - storage_price(need.disk_gb), 4),
        many=True,
        substitute=substitute,
    )


def region_and_type(offer: Offer) -> tuple[str, str]:
    """Region id and card, exactly as the service wants them back."""
    return offer.region.split()[-1], offer.id.split("/")[1]


def create_payload(offer: Offer, name: str, disk_gb: int) -> dict[str, Any]:
    region, gpu_type = region_and_type(offer)
    return {
        "gpu_type": gpu_type, "num_gpus": offer.num_gpus, "hdd": disk_gb, "region": region, "name": name,
        "is_spot": offer.spot, "duration": "hour", "disk_type": "ssd", "http_ports": "", "script_id": None,
        "script_args": "", "fs_id": None, "arguments": "",
    }  # fmt: skip


def resume_payload(row: Any, spot: bool) -> dict[str, Any]:
    """Without `is_spot` a machine that was spot would come back at the full price."""
    return {
        "machine_id": row.machine_id, "gpu_type": row.gpu_type, "num_gpus": row.num_gpus, "is_spot": spot,
        "hdd": row.storage_gb, "name": row.name, "duration": "hour", "script_id": None, "http_ports": "",
        "script_args": "", "fs_id": row.fs_id, "arguments": "",
    }  # fmt: skip


_STATES = {
    "Running": MachineState.running,
    "Pausing": MachineState.stopped,
    "Paused": MachineState.stopped,
    "Failed": MachineState.failed,
    "Destroying": MachineState.gone,
}


def state_of(status: str) -> MachineState:
    """JarvisLabs' statuses in our five words; what is unknown is taken for a machine on its way."""
    return _STATES.get(status, MachineState.pending)

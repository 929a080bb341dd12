"""RunPod's words into ours and back: catalog rows, pods, requests. Pure.

After the public reference of its REST API v2 (https://docs.runpod.io/api-reference-v2): card memory in GB, prices in $ per hour
and card, CUDA versions as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from launchers.errors import MendInput
from launchers.gpus import find_card
from launchers.job import Address, MachineState, MachineStatus, Misfit, Offer
from launchers.providers.base import CreateRequest, Need
from launchers.providers.runpod.settings import CLOUDS, RunpodSettings

STORAGE_PER_GB_MONTH = 0.10
"""$ of a running pod's disk, from the public price page: the catalog does not have it."""
STORAGE_AS_OF = "November 2026"
HOURS_PER_MONTH = 730
ASSUMED_MBPS = 500.0
"""RunPod publishes no rates of its network; only the expected hours of transfers depend on it."""
UNLIMITED_DISK_GB = 2000.0
SSH_PORT = "22/tcp"

_CARDS = {
    "NVIDIA H100 80GB HBM3": "H100", "NVIDIA H100 PCIe": "H100", "NVIDIA H100 NVL": "H100", "NVIDIA H200 NVL": "H200",
    "NVIDIA A100 80GB PCIe": "A100 80GB", "NVIDIA A100-SXM4-80GB": "A100 80GB", "Tesla T4": "T4",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada", "NVIDIA RTX PRO 6000 Blackwell Server Edition": "RTX PRO 6000",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "RTX PRO 6000",
}  # fmt: skip
"""RunPod's ids of cards that it names otherwise than by "NVIDIA" and our name."""
_AS_GOOD = {"A100": ("A100 80GB",)}
"""Cards that serve as another."""


def card_of(gpu_type: str | None) -> str | None:
    """Our name of a card as RunPod calls it; RunPod's own where we have none."""
    if not gpu_type:
        return None
    plain = re.sub(r"\s+", " ", gpu_type)
    try:
        return find_card(_CARDS.get(plain, plain)).name
    except MendInput:
        return plain


def clouds_of(need: Need) -> tuple[str, ...]:
    """The tiers that are asked about."""
    cloud = need.settings.cloud if isinstance(need.settings, RunpodSettings) else "any"
    return CLOUDS if cloud == "any" else (cloud,)


def storage_price(disk_gb: float) -> float:
    """$ per hour."""
    return disk_gb * STORAGE_PER_GB_MONTH / HOURS_PER_MONTH


def offers_of_rows(rows: Iterable[dict[str, Any]], need: Need, cloud: str) -> list[Offer]:
    """One offer for each card of a tier that has the wanted one; where none is it, all, as substitutes."""
    sold = [row for row in rows if row.get(cloud) and (row.get("price") or {}).get(cloud)]
    wanted = None if need.gpu is None else (need.gpu, *_AS_GOOD.get(need.gpu, ()))
    named = [row for row in sold if wanted is None or card_of(row["id"]) in wanted]
    return [_offer(row, need, cloud, substitute=not named) for row in named or sold]


def _offer(row: dict[str, Any], need: Need, cloud: str, substitute: bool) -> Offer:
    places = [place["id"] for place in row.get("dataCenters") or [] if place.get("availability") != "NONE"]
    rent = float(row["price"][cloud]) * need.num_gpus
    most = int((row.get("maxCount") or {}).get(cloud) or 0)
    return Offer(
        provider="runpod",
        id=f"{cloud}/{row['id']}",
        host=f"{cloud}/{row['id']}",
        gpu=card_of(row["id"]),
        num_gpus=min(need.num_gpus, most),
        gpu_memory_gib=float(row.get("memory") or 0),
        price=round(rent + storage_price(need.disk_gb), 4),
        spot=False,
        disk_gb=UNLIMITED_DISK_GB,
        download_mbps=ASSUMED_MBPS,
        upload_mbps=ASSUMED_MBPS,
        reliability=0.0,
        region=" ".join([cloud, *places]),
        price_without_disk=round(rent, 4),
        many=True,
        substitute=substitute,
        misfits=_misfits(row, need),
    )


def _misfits(row: dict[str, Any], need: Need) -> tuple[Misfit, ...]:
    found = []
    if row.get("availability", "NONE") == "NONE":
        found.append(Misfit("stock", "none of it is free now"))
    wanted = need.settings.cuda if need.settings else None
    free = [v["version"] for v in row.get("cudaVersions") or [] if v.get("availability") != "NONE"]
    if wanted is not None and not any(_version(version) >= _version(f"{wanted:g}") for version in free):
        newest = max(free, key=_version, default="no version that is known")
        text = f"its free machines support CUDA {newest}, less than provider.min_cuda {wanted:g}"
        found.append(Misfit("provider.min_cuda", text))
    return tuple(found)


def _version(text: str) -> tuple[int, int]:
    """RunPod compares versions as numbers, so that 12.11 is above 12.2."""
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)


def create_payload(request: CreateRequest) -> dict[str, Any]:
    offer, settings = request.offer, request.settings
    cloud, _, gpu_type = offer.id.partition("/")
    gpu: dict[str, Any] = {"id": gpu_type, "count": offer.num_gpus}
    if settings is not None and settings.cuda is not None:
        gpu["minCudaVersion"] = f"{settings.cuda:.1f}"
    payload: dict[str, Any] = {
        "name": request.label, "image": request.image, "cloud": cloud.upper(), "gpu": gpu, "disk": request.disk_gb,
        "ports": [SSH_PORT], "startSsh": True, "env": {"PUBLIC_KEY": request.public_key},
    }  # fmt: skip
    region = settings.region if settings is not None else None
    if region:
        payload["dataCenterIds"] = [place for place in offer.region.split()[1:] if region.lower() in place.lower()]
    return payload


_STATES = {
    "RUNNING": MachineState.running,
    "EXITED": MachineState.stopped,
    "ERROR": MachineState.failed,
    "TERMINATED": MachineState.gone,
}


def state_of(status: str | None) -> MachineState:
    """RunPod's statuses in our five words; what is unknown is taken for a pod on its way."""
    return _STATES.get(status or "", MachineState.pending)


def status_of_pod(pod: dict[str, Any]) -> MachineStatus:
    """One pod; fields that a starting one does not have yet are left empty."""
    gpu = card_of((pod.get("gpu") or {}).get("id"))
    direct = (pod.get("ssh") or {}).get("direct") or {}
    address = Address(str(direct["host"]), int(direct["port"]), direct.get("username") or "root") if direct else None
    return MachineStatus(
        instance=str(pod["id"]),
        label=str(pod.get("name") or ""),
        state=state_of(pod.get("status")),
        detail=str(pod.get("status") or ""),
        price=float(pod.get("cost") or 0),
        spot=False,
        gpu=gpu,
        host=f"{str(pod.get('cloud') or '').lower()}/{(pod.get('gpu') or {}).get('id')}",
        addresses=(address,) if address else (),
    )

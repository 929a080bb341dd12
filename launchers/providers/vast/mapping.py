"""Vast's words into ours and back: queries, rows, states. Pure; no SDK.

Units on the wire: card memory in MB, bandwidth in Mbit/s, prices in $ per hour for all cards of an offer, traffic in $ per GB.
"""

from __future__ import annotations

from typing import Any

from launchers.gpus import find_card
from launchers.job import Address, MachineState, MachineStatus, Misfit, Offer
from launchers.providers.base import Need
from launchers.providers.vast.settings import VastSettings

# Vast sells some cards under several exact names, and both sizes of the A100 under the same ones.
_NAMES_OF_CARD = {
    "A100": ("A100 SXM4", "A100 PCIE", "A100 SXM", "A100X"),
    "A100 80GB": ("A100 SXM4", "A100 PCIE", "A100 SXM", "A100X"),
    "H100": ("H100 SXM", "H100 NVL", "H100 PCIE"),
    "H200": ("H200", "H200 NVL"),
    "RTX 6000 Ada": ("RTX 6000Ada",),
}
_OFFERS_LOOKED_AT = 200


def names_of_card(card: str) -> tuple[str, ...]:
    """Vast's names of a card of ours."""
    return _NAMES_OF_CARD.get(card, (card,))


def card_of_name(name: str | None, memory_mb: float) -> str | None:
    """Our name of a card as Vast calls it."""
    if not name:
        return None
    for card, names in _NAMES_OF_CARD.items():
        if name in names:
            return "A100 80GB" if card == "A100" and memory_mb >= 79_000 else card
    return name


def offer_queries(need: Need) -> list[dict[str, Any]]:
    """Searches, to be tried in order until one finds something: what fits, then the card alone, then any card.

    The planner refuses what the later ones find, and names what each offer lacks. Prices, sizes and rates are in none of them
    for the same reason.
    """
    ports: dict[str, Any] = {"direct_port_count": {"gte": 1}}
    number: dict[str, Any] = {"num_gpus": {"eq": need.num_gpus}}
    cuda, card = _cuda_filter(need), _card_filter(need)
    searches = [number | ports | cuda | card, card, number]
    found: list[dict[str, Any]] = []
    for search in searches:
        if search not in found and search:
            found.append(search)
    return [search | {"limit": _OFFERS_LOOKED_AT} for search in found]


def _card_filter(need: Need) -> dict[str, Any]:
    if not need.gpu:
        return {}
    card = find_card(need.gpu)
    found: dict[str, Any] = {"gpu_name": {"in": list(names_of_card(card.name))}}
    if card.name == "A100 80GB":
        found["gpu_ram"] = {"gte": 79_000}
    return found


def _cuda_filter(need: Need) -> dict[str, Any]:
    own = need.settings
    return {"cuda_max_good": {"gte": own.cuda}} if own is not None and own.cuda is not None else {}


def misfits_of_row(row: dict[str, Any], need: Need) -> tuple[Misfit, ...]:
    """What a row lacks of the settings that only Vast has."""
    own, found = need.settings, []
    if int(row.get("direct_port_count") or 0) < 1:
        found.append(Misfit("a direct port", "it has no direct port, so that ssh can't reach it"))
    if isinstance(own, VastSettings):
        cuda, reliability = float(row.get("cuda_max_good") or 0), _reliability(row)
        if own.min_cuda is not None and cuda < own.min_cuda:
            found.append(
                Misfit(
                    "provider.min_cuda",
                    f"its driver supports CUDA {cuda:g}, less than provider.min_cuda {own.min_cuda:g}",
                )
            )
        if reliability < own.min_reliability:
            found.append(
                Misfit(
                    "provider.min_reliability",
                    f"its reliability {reliability:.2f} is below provider.min_reliability {own.min_reliability:.2f}",
                )
            )
    return tuple(found)


def _is_card(row: dict[str, Any], gpu: str | None, wanted: str) -> bool:
    """Whether a row is of the wanted card: the larger A100 also serves as the smaller one."""
    return row.get("gpu_name") in names_of_card(wanted) and (wanted != "A100 80GB" or gpu == wanted)


def _reliability(row: dict[str, Any]) -> float:
    return float(row.get("reliability", row.get("reliability2")) or 0)


def offer_of_row(row: dict[str, Any], need: Need, spot: bool) -> Offer | None:
    """One row of a search; None for a spot row without a floor, which cannot be bid on."""
    price = row.get("dph_total")
    factor = need.settings.bid_factor if isinstance(need.settings, VastSettings) else 1.0
    if spot:
        floor = row.get("min_bid")
        if floor is None:
            return None
        price = max(float(floor) * factor, 0.001)
        if need.max_price is not None and float(floor) <= need.max_price:
            price = min(price, need.max_price)
        price = round(price, 4)
    if price is None:
        return None
    memory = float(row.get("gpu_ram") or 0)
    gpu = card_of_name(row.get("gpu_name"), memory)
    return Offer(
        provider="vast",
        id=str(row["id"]),
        host=str(row.get("machine_id", row["id"])),
        gpu=gpu,
        num_gpus=int(row.get("num_gpus") or 1),
        gpu_memory_gib=memory / 1024,
        price=float(price),
        spot=spot,
        disk_gb=float(row.get("disk_space") or 0),
        download_mbps=float(row.get("inet_down") or 0),
        upload_mbps=float(row.get("inet_up") or 0),
        reliability=_reliability(row),
        region=str(row.get("geolocation") or ""),
        download_price=float(row.get("inet_down_cost") or 0),
        upload_price=float(row.get("inet_up_cost") or 0),
        price_without_disk=row.get("dph_base"),
        substitute=need.gpu is not None and not _is_card(row, gpu, find_card(need.gpu).name),
        misfits=misfits_of_row(row, need),
    )


_STOPPED = {"stopped", "frozen"}
_FAILED = {"exited", "unknown", "offline"}
_TROUBLE = ("oci runtime", "error", "failed", "permission denied")


def state_of_row(row: dict[str, Any]) -> MachineState:
    """Vast's `actual_status` and its neighbors in our five words."""
    actual = row.get("actual_status")
    message = str(row.get("status_msg") or "").lower()
    if actual in _STOPPED or row.get("cur_state") == row.get("intended_status") == "stopped":
        return MachineState.stopped
    if actual in _FAILED:
        return MachineState.failed
    if actual == "running":
        return MachineState.running
    if actual == "created" and any(word in message for word in _TROUBLE):
        return MachineState.failed
    return MachineState.pending


def status_of_row(row: dict[str, Any]) -> MachineStatus:
    """One instance; fields that a starting instance does not have yet are left empty."""
    words = [str(row[key]) for key in ("actual_status", "cur_state", "status_msg") if row.get(key)]
    return MachineStatus(
        instance=str(row["id"]),
        label=str(row.get("label") or ""),
        state=state_of_row(row),
        detail=", ".join(dict.fromkeys(words)),
        price=float(row.get("dph_total") or 0),
        spot=bool(row.get("is_bid")),
        gpu=card_of_name(row.get("gpu_name"), float(row.get("gpu_ram") or 0)),
        host=str(row.get("machine_id", "")),
        addresses=addresses_of_row(row),
    )


def addresses_of_row(row: dict[str, Any]) -> tuple[Address, ...]:
    """The direct pair, then the proxy pair; a host of one never goes with the port of the other."""
    found = []
    ports = (row.get("ports") or {}).get("22/tcp") or []
    if row.get("public_ipaddr") and ports and ports[0].get("HostPort"):
        found.append(Address(str(row["public_ipaddr"]).strip(), int(ports[0]["HostPort"]), "root"))
    if row.get("ssh_host") and row.get("ssh_port"):
        found.append(Address(str(row["ssh_host"]), int(row["ssh_port"]), "root"))
    return tuple(dict.fromkeys(found))

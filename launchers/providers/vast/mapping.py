"""Vast's words into ours and back: queries, rows, states. Pure; no SDK.

Units on the wire: card memory in MB, bandwidth in Mbit/s, prices in $ per hour for all cards of an offer, traffic in $ per GB.
"""

from __future__ import annotations

from typing import Any

from launchers.gpus import find_card
from launchers.job import Address, MachineState, MachineStatus, Offer
from launchers.providers.base import Need

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


def offer_query(need: Need) -> dict[str, Any]:
    """The search for a card and nothing else: what is too dear or too small must be seen to be named in a refusal."""
    query: dict[str, Any] = {"num_gpus": {"eq": need.num_gpus}, "direct_port_count": {"gte": 1}}
    if need.gpu:
        card = find_card(need.gpu)
        query["gpu_name"] = {"in": list(names_of_card(card.name))}
        if card.name == "A100 80GB":
            query["gpu_ram"] = {"gte": 79_000}
    if need.min_cuda is not None:
        query["cuda_max_good"] = {"gte": need.min_cuda}
    query["limit"] = _OFFERS_LOOKED_AT
    return query


def offer_of_row(row: dict[str, Any], need: Need, spot: bool) -> Offer | None:
    """One row of a search; None for a spot row without a floor, which cannot be bid on."""
    price = row.get("dph_total")
    if spot:
        floor = row.get("min_bid")
        if floor is None:
            return None
        price = max(float(floor) * need.bid_factor, 0.001)
        if need.max_price is not None and float(floor) <= need.max_price:
            price = min(price, need.max_price)
        price = round(price, 4)
    if price is None:
        return None
    memory = float(row.get("gpu_ram") or 0)
    return Offer(
        provider="vast",
        id=str(row["id"]),
        host=str(row.get("machine_id", row["id"])),
        gpu=card_of_name(row.get("gpu_name"), memory),
        num_gpus=int(row.get("num_gpus") or 1),
        gpu_memory_gib=memory / 1024,
        price=float(price),
        spot=spot,
        disk_gb=float(row.get("disk_space") or 0),
        download_mbps=float(row.get("inet_down") or 0),
        upload_mbps=float(row.get("inet_up") or 0),
        reliability=float(row.get("reliability", row.get("reliability2")) or 0),
        region=str(row.get("geolocation") or ""),
        download_price=float(row.get("inet_down_cost") or 0),
        upload_price=float(row.get("inet_up_cost") or 0),
        price_without_disk=row.get("dph_base"),
    )


_STOPPED = {"stopped", "frozen"}
_FAILED = {"exited", "unknown", "offline"}
_TROUBLE = ("oci runtime", "error", "failed", "permission denied")


def state_of_row(row: dict[str, Any]) -> MachineState:
    """Vast's `actual_status` and its neighbours in our five words."""
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

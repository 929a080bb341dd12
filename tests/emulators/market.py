"""What an emulated provider has to rent, and the faults that can be planted in it."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any


def offer(number: int, gpu: str = "RTX 4090", **changes: Any) -> dict[str, Any]:
    """A row as Vast's search returns it."""
    row: dict[str, Any] = {
        "id": number, "machine_id": number + 800, "gpu_name": gpu, "num_gpus": 1, "gpu_ram": 24564, "cpu_ram": 64000,
        "dph_total": 0.36, "dph_base": 0.33, "min_bid": 0.20, "storage_cost": 0.15, "disk_space": 300.0,
        "inet_up": 500.0, "inet_down": 800.0, "inet_up_cost": 0.002, "inet_down_cost": 0.001, "reliability": 0.99,
        "reliability2": 0.99, "cuda_max_good": 12.8, "direct_port_count": 16, "duration": 8.6e6, "verified": True,
        "external": False, "rentable": True, "rented": False, "geolocation": "Sweden, SE", "hosting_type": 0,
    }  # fmt: skip
    return row | changes


def default_market() -> list[dict[str, Any]]:
    """A small market with the cards of the shipped hardware options."""
    return [
        offer(101, dph_total=0.36, min_bid=0.20),
        offer(102, dph_total=0.41, min_bid=0.22, geolocation="Texas, US"),
        offer(103, dph_total=0.44, min_bid=0.25),
        offer(104, dph_total=0.72, min_bid=0.30, geolocation="Japan, JP"),
        offer(201, "A100 SXM4", gpu_ram=40960, dph_total=0.49, min_bid=0.31),
        offer(202, "A100 PCIE", gpu_ram=81920, dph_total=0.95, min_bid=0.50),
        offer(301, "H100 SXM", gpu_ram=81559, dph_total=1.87, min_bid=1.10),
        offer(401, "RTX 3090", gpu_ram=24576, dph_total=0.18, min_bid=0.09),
    ]


_OPERATORS = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "in": lambda a, b: a in b,
    "notin": lambda a, b: a not in b,
}


def matches(row: dict[str, Any], filters: dict[str, Any]) -> bool:
    """Whether a row passes filters like {"dph_total": {"lte": "0.5"}}; numbers may come as text."""
    for name, conditions in filters.items():
        if not isinstance(conditions, dict):
            continue
        value = row.get(name)
        for operator, wanted in conditions.items():
            if isinstance(wanted, str) and isinstance(value, (int, float)) and not isinstance(value, bool):
                wanted = float(wanted)
            if value is None or not _OPERATORS[operator](value, wanted):
                return False
    return True


@dataclass
class Fault:
    """What goes wrong with the next `times` requests that match.

    Actions: an HTTP status as a number; `lost` acts and drops the connection without a reply; `drop` drops it before acting;
    `refuse` answers 200 with success false; `text` answers 200 with a page of HTML, `page` answers 403 with one.
    """

    method: str
    path: str
    action: int | str
    times: int = 1
    body: dict[str, Any] | None = None


@dataclass
class Faults:
    planted: list[Fault] = field(default_factory=list)
    hit: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plant(
        self, method: str, path: str, action: int | str, times: int = 1, body: dict[str, Any] | None = None
    ) -> None:
        self.planted.append(Fault(method, path, action, times, body))

    def take(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self.planted:
                if fault.times > 0 and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    self.hit.append(f"{method} {path} {fault.action}")
                    return fault
        return None

"""What a job knows of the rented machine it runs on: facts that whoever rented it left in the environment.

`LAUNCHERS_RENTAL` holds a JSON object; every fact in it is optional and untrusted. A job that runs on a user's own machine
has none of them and costs nothing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

VARIABLE = "LAUNCHERS_RENTAL"
NAMES = ("provider", "gpu", "num_gpus", "region", "spot", "restarts")
"""Facts that do not change while the job runs."""
NOT_RENTED: Mapping[str, Any] = {
    "provider": "local", "gpu": "cpu", "num_gpus": 0, "region": "local", "spot": False, "restarts": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Rental:
    """Facts about a rented machine.

    Attributes:
        facts: those of `NAMES` that are known.
        price: dollars per hour; 0 where nothing is billed.
        earlier: dollars that the job had cost before this start.
        since: when this start began, in seconds since the epoch.
    """

    facts: Mapping[str, Any]
    price: float
    earlier: float
    since: float

    def dollars(self, now: float) -> float:
        """What the job has cost so far, by the meter: an estimate until its bill."""
        return self.earlier + max(now - self.since, 0.0) / 3600 * self.price

    def gpu_hours(self, now: float) -> float:
        """Hours of all cards so far; those of earlier starts are reckoned from their dollars and today's price."""
        earlier = self.earlier / self.price if self.price else 0.0
        return (earlier + max(now - self.since, 0.0) / 3600) * amount(self.settings()["num_gpus"])

    def settings(self) -> dict[str, Any]:
        """What a dashboard groups and colors runs by: every name of `NAMES`, and the price."""
        return {**NOT_RENTED, **self.facts, "price": self.price}

    def or_else(self, **known: Any) -> Rental:
        """The same with facts that the job knows by itself, where whoever rented the machine gave none."""
        return replace(self, facts={**known, **self.facts})


def read_rental(environment: Mapping[str, str] = os.environ, now: float | None = None) -> Rental:
    """The facts that are there; what cannot be read counts as not there."""
    try:
        found = json.loads(environment.get(VARIABLE, "{}"))
    except ValueError:
        found = {}
    if not isinstance(found, dict):
        found = {}
    facts = {name: found[name] for name in NAMES if isinstance(found.get(name), str | int | float | bool)}
    price, earlier = (amount(found.get(name)) for name in ("price", "cost"))
    return Rental(facts, price, earlier, time.time() if now is None else now)


def amount(value: object) -> float:
    """A number of dollars or cards; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if math.isfinite(value) and value >= 0 else 0.0

"""Rows of the ledger as typed records."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from launchers.job import Billing, JobSpec, JobState, Offer, Results

SETTLE_S = 900.0
"""How long a create call whose answer was lost may still show up as a machine in the provider's list."""


@dataclass(frozen=True)
class JobRecord:
    """A job, as far as the ledger knows."""

    spec: JobSpec
    launch: str
    state: JobState
    results: Results
    machine: str | None
    restarts: int
    value: Any
    note: str | None
    started: float | None
    ended: float | None
    cost: float
    cancel: bool
    log_base: int
    """Bytes the local log had when the job came to its present machine."""
    handle: str | None
    """What a serverless provider calls it."""
    seconds: float
    """Machine time that its cost stands for: of all its machines, those that never came up included."""
    provider: str | None = None
    """Of its present machine, or its last one."""


@dataclass(frozen=True)
class Losses:
    """What a ledger has seen of one kind of machine of one provider."""

    hours: float = 0.0
    """That all of them were rented together."""
    lost: int = 0
    """How many were taken away from a running job."""


@dataclass(frozen=True)
class MachineRecord:
    """A machine, or an application of a serverless provider, from the intent to its confirmed end."""

    label: str
    launch: str
    provider: str
    api_url: str | None
    instance: str | None
    offer: Offer
    price: float
    billing: Billing
    created: float
    ended: float | None
    host_key: str | None
    note: str | None
    accounted: float | None
    """Until when its cost was put on jobs."""
    deadline: float | None
    """When the client destroys it, whatever it says; seconds since the epoch."""
    job: str | None
    """The job that pays for it now."""
    account: str | None
    """Fingerprint of the key that rented it; no other key is used to ask about it."""
    lost: float | None
    """When the provider took it away from a running job."""
    spent: float
    """What its jobs cost."""

    @property
    def bills_idle(self) -> bool:
        """Whether it costs money while no job runs on it."""
        return self.offer.charging.while_idle

    @property
    def unsettled(self) -> bool:
        """Whether a create call was made whose answer nobody saw: it may be billed under its label."""
        return self.billing is Billing.intended and self.instance is None

    def exposure(self, now: float) -> float:
        """$ so far at worst: one whose create call was never answered counts as billed."""
        return (now - self.created) / 3600 * self.price if self.unsettled else self.cost(now)

    def cost(self, now: float) -> float:
        """$ so far, by the meter; an estimate until the provider's bill."""
        if not self.bills_idle:
            return self.spent
        if self.instance is None:
            return 0.0
        return max((self.ended or now) - self.created, 0.0) / 3600 * self.price


def job_record(row: sqlite3.Row) -> JobRecord:
    fields = {name: row[name] for name in row.keys() if name not in ("id", "number")}  # noqa: SIM118
    fields["spec"] = JobSpec.from_json(fields["spec"])
    fields["state"], fields["results"] = JobState(fields["state"]), Results(fields["results"])
    fields["value"] = None if fields["value"] is None else json.loads(fields["value"])
    fields["cancel"] = bool(fields["cancel"])
    return JobRecord(**fields)


def machine_record(row: sqlite3.Row) -> MachineRecord:
    fields = {name: row[name] for name in row.keys()}  # noqa: SIM118
    fields["offer"], fields["billing"] = Offer(**json.loads(fields["offer"])), Billing(fields["billing"])
    return MachineRecord(**fields)

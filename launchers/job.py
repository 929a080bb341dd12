"""The nouns of the logistics and the names they own.

Four questions are kept apart: did the job end (`JobState`)? is the machine still billed (`Billing`)? can we reach it
(asked anew each time, never stored)? do we hold the results (`Results`)?
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

LABEL_PREFIX = "launchers"


class JobState(StrEnum):
    """Where a job is, or how it ended."""

    waiting = "waiting"
    running = "running"
    finished = "finished"
    failed = "failed"
    capped = "capped"
    cancelled = "cancelled"
    pruned = "pruned"
    """A search ended it: others do better."""
    lost = "lost"

    @property
    def ended(self) -> bool:
        return self not in (JobState.waiting, JobState.running)


class Results(StrEnum):
    """What of a job's folder is here."""

    none = "none"
    partial = "partial"
    verified = "verified"


class Billing(StrEnum):
    """Whether a machine costs money."""

    intended = "intended"
    """The create call may have been made; its answer was never seen."""
    active = "active"
    """It exists, and costs money."""
    gone = "gone"
    """Confirmed by the provider's own list."""
    unconfirmed = "unconfirmed"
    """It should be gone and could not be confirmed gone: a person must look."""


class Charging(StrEnum):
    """What is billed."""

    machine = "machine"
    """Each second of a machine, from its creation until it is destroyed, whether a job runs or not."""
    job = "job"
    """Each second that a job runs; what it runs in costs nothing by itself."""
    nothing = "nothing"
    """A queue of the user's own: it has no prices to compare and no bill to stop."""

    @property
    def while_idle(self) -> bool:
        """Whether it costs money while no job runs, so that it must be destroyed."""
        return self is Charging.machine


class Misfit(NamedTuple):
    """Why an offer can't be rented for a need."""

    setting: str
    """That would let it in, as a user writes it: `provider.max_price`."""
    reason: str
    """A clause with the offer as its subject: "it costs more than ...", "its card has ..."."""


@dataclass(frozen=True)
class Offer:
    """A machine on the market. Prices in $ per hour for the whole machine with the disk asked for; rates in $ per GB."""

    provider: str
    id: str
    host: str
    """The physical box: what to avoid after a failure."""
    gpu: str | None
    num_gpus: int
    gpu_memory_gib: float
    """Of one card."""
    price: float
    """What we would be billed an hour: the on-demand rate, or our bid."""
    spot: bool
    disk_gb: float
    download_mbps: float
    upload_mbps: float
    reliability: float
    region: str
    download_price: float = 0.0
    upload_price: float = 0.0
    price_without_disk: float | None = None
    charging: Charging = Charging.machine
    """What is billed at `price`."""
    many: bool = False
    """A kind of machine, of which this market may have several: two of our threads may rent it at once."""
    substitute: bool = False
    """Not the card that was asked for, which this market does not have: shown so that a refusal can name it."""
    misfits: tuple[Misfit, ...] = ()
    """What it lacks of the provider's own settings."""

    def __post_init__(self) -> None:
        # JSON, in which the ledger keeps an offer, has lists.
        object.__setattr__(self, "misfits", tuple(Misfit(*misfit) for misfit in self.misfits))
        object.__setattr__(self, "charging", Charging(self.charging))


class MachineState(StrEnum):
    """A provider's many words, in the five that matter."""

    pending = "pending"
    running = "running"
    stopped = "stopped"
    """It exists and bills its disk, but has no GPU and no login."""
    failed = "failed"
    gone = "gone"


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    user: str


@dataclass(frozen=True)
class MachineStatus:
    """What the provider says about one machine."""

    instance: str
    label: str
    state: MachineState
    detail: str
    """The provider's own words."""
    price: float
    """Billed rate, $ per hour."""
    spot: bool
    gpu: str | None
    host: str
    addresses: tuple[Address, ...] = ()
    """Where it can be reached, best first."""
    ended: float | None = None
    """When it ended, where the provider still knows that of a machine that is gone; seconds since the epoch."""


def new_launch_id(now: float) -> str:
    """Sortable by time, unique without asking anyone: `20261123-154210-3fa9`."""
    import secrets  # Hydra imports this module at each start of every app

    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + "-" + secrets.token_hex(2)


@dataclass(frozen=True)
class JobPaths:
    """Everything a job owns on the machine that runs it."""

    root: PurePosixPath
    job: str

    @property
    def folder(self) -> PurePosixPath:
        """Holds what the supervisor writes: specification, status, log."""
        return self.root / "jobs" / self.job

    @property
    def output(self) -> PurePosixPath:
        """The job's own output folder; it comes home as it is."""
        return self.folder / "output"


@dataclass(frozen=True)
class JobSpec:
    """What runs, in text: the same on every machine that a job may come to. Holds no secret."""

    id: str
    number: int
    folder: str
    """The job's folder on this machine."""
    entry_point: str
    overrides: tuple[str, ...]
    snapshot: str
    """Digest of the working tree that it runs in."""
    settings: dict[str, Any]
    timing: dict[str, Any]
    hours: float
    """Expected."""
    config: str = field(default="", repr=False)
    """The composed config as text, for people to read; the machine composes its own from the overrides."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> JobSpec:
        fields = json.loads(text)
        fields["overrides"] = tuple(fields["overrides"])
        return JobSpec(**fields)

    @property
    def home(self) -> Path:
        return Path(self.folder)

    def output_below(self, remote_root: str) -> str:
        """The job's output folder on the machine that runs it, by the folder that its provider has for us."""
        return str(JobPaths(PurePosixPath(remote_root), self.id).output)


def machine_label(client: str, launch: str, number: int) -> str:
    """The label every cloud object carries: ours, from this client, for this launch, its n-th machine."""
    return f"{LABEL_PREFIX}-{client}-{launch}-{number}"


def is_our_label(label: str, client: str | None = None) -> bool:
    """Whether a label is one of ours; of this client only, where one is given."""
    return label.startswith(f"{LABEL_PREFIX}-{client}-" if client else f"{LABEL_PREFIX}-")

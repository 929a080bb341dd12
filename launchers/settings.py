"""The typed settings of a rented machine, as they stand under `provider:` in a job's config.

The values come from the app's config files (here `conf/provider/`): nothing about money has a default in code. A provider
adds its own settings in a subclass, in its own folder. `Timing` holds the deadlines of the machinery itself, which few users
ever touch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launchers.errors import MendInput

POSITIVE = 1e-9
"""Lowest value of what must be above 0."""
Value = TypeVar("Value")


def bounded(default: Value, low: float, high: float) -> Value:
    """A field of a settings class with its default, and the range that `launchers.ranges` holds its values to."""
    found: Value = field(default=default, metadata={"range": (low, high)})
    return found


@dataclass
class RentalSettings:
    """What every provider understands."""

    name: str = MISSING
    gpu: str | None = None
    """The card, by any common name of it ("4090", "RTX 4090", "A100-80GB"); null rents without asking for one."""
    num_gpus: int = MISSING
    max_price: float = MISSING
    """$ per hour for the whole machine, storage included."""
    max_cost: float | None = None
    """$ for one job, all its machines together; null: bounded by max_price x max_hours alone."""
    max_total_cost: float | None = None
    """$ for all machines of a launch together; null: as many jobs as there are, each within its own caps."""
    max_hours: float = MISSING
    """Hours of one job on all its machines, those that never came up included; on each a watchdog ends the rental even if
    this client is gone."""
    spot: bool = MISSING
    """Rent an interruptible machine: cheaper, may be taken away at any time."""
    disk_gb: int = MISSING
    min_gpu_memory_gib: float = MISSING
    min_disk_gb: int = MISSING
    """Disk that must be free on the machine once it is up."""
    min_download_mbps: float = MISSING
    image: str = MISSING
    region: str | None = None
    api_url: str | None = None
    """null: the provider's own address; an emulator's in a rehearsal."""
    remote_root: str = MISSING
    """Folder on the machine that holds everything of ours."""
    python: str | None = None
    """null: the image's python, with a virtual environment of the job's locked dependencies on top."""
    apt: list[str] = field(default_factory=list)
    """Debian packages that a job needs, put where they are missing and may be installed; not beside a `python` that is named."""
    provided: dict[str, list[str]] = field(default_factory=dict)
    """Packages that stay the image's own where its Python can import them, such as those built for its driver; each with the
    beginnings of the requirements that it brings along, which are not installed then."""
    check_gpu: bool = MISSING
    """Refuse a machine whose card is not the one paid for; false in a rehearsal without cards."""
    machines: int = MISSING
    """Machines a sweep may rent at once."""
    max_restarts: int = MISSING
    """Times one job may be moved to a new machine after it lost one."""
    sync_every_s: float = MISSING
    detach: bool = MISSING
    """Return when the job runs; `python -m launchers attach` downloads the results."""
    dry_run: bool = MISSING
    """Print the plan and rent nothing."""
    entry_point: str | None = None
    """Module the machine runs with `python -m`; null: the one this process was started with."""
    remote_overrides: list[str] = field(default_factory=list)
    """Overrides that make the job run in place on the machine, such as provider=local."""
    local_paths: list[str] = field(default_factory=list)
    """Config keys whose value is a file or folder of this machine: it travels, and the key names the copy."""
    sync_early: list[str] = field(default_factory=list)
    """Patterns, relative to the job's folder, of what comes home while the job still runs."""
    objective: str | None = None
    """What the value is called that a job returns: the name of its column in tables."""
    max_results_gb: float = 200.0
    """What a job's results may fill of this computer's disk; files beyond it are not downloaded, and named."""
    max_log_mb: float = 200.0
    """What a job's log may fill; of a longer one the middle is dropped."""
    pass_environment: list[str] = field(default_factory=list)
    """Environment variables handed to the job; their values are never written to a file."""
    needed_environment: str | None = None
    """`module:function` that takes the job's config and returns the names of further ones, those that this job can't do without."""
    forecast: str | None = None
    """`module:function` that takes the job's config and returns its expected hours; null plans with max_hours."""
    carry: str | None = None
    """`module:function` that takes the job's config and returns what of this machine would spare the job work, the most
    needed first: path -> file or folder. It travels while it stays under `max_carry_mb`; `CARRIED_DATA` names its folder."""
    max_carry_mb: float = 0.0
    expected_download_gb: float = MISSING
    """What the machine downloads before the job can start: image, packages, models, data."""
    expected_results_gb: float = 0.0
    """What of the job's results is downloaded once it has ended."""
    max_snapshot_mb: float = MISSING

    @property
    def cuda(self) -> float | None:
        """CUDA version that a machine's driver must support; null: any. A provider whose market knows it has a setting for it."""
        return None


@dataclass
class Timing:
    """Deadlines and intervals of the machinery, in seconds."""

    boot: float = 1200.0
    """From the create call to a running container."""
    ssh: float = 180.0
    """From a running container to a login."""
    setup: float = 1800.0
    poll: float = 10.0
    """Between two questions to the provider about one machine; providers that are asked faster answer 429."""
    status: float = 5.0
    """Between two looks at a running job."""
    unreachable: float = 600.0
    """How long a machine the provider calls running may stay silent before it is given up."""
    idle: float = 1800.0
    """How long a machine waits, after its job ended, for someone to fetch the results before it ends itself."""
    grace: float = 60.0
    """Between asking a job to stop, so that it can write a checkpoint, and killing it."""
    fetch: float = 1800.0
    """How long, after a cap or a Ctrl-C, results may be downloaded before the machine is destroyed without them."""
    second_interrupt: float = 5.0
    """After a Ctrl-C that leaves jobs running, in which another one ends them."""
    retry_first: float = 1.0
    """First pause after a failed request; each next one is twice as long, up to a minute."""
    retry_total: float = 180.0
    """How long a request to a provider is repeated before giving up."""
    max_attempts: int = 4
    """Offers tried for one machine before giving up."""


SettingsT = TypeVar("SettingsT")


def typed(schema: type[SettingsT], node: Any, where: str) -> SettingsT:
    """A config node as an object of `schema`.

    Raises:
        MendInput: a key is unknown, missing, or of the wrong type.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), resolved(node))
        missing = sorted(str(key) for key in OmegaConf.missing_keys(merged))
        if missing:
            raise MendInput(f"{where} lacks {', '.join(missing)}: give a value under `{where}` in the config.")
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise MendInput(f"{where} can't be used: {str(error).splitlines()[0]}.") from None
    assert isinstance(settings, schema)
    return settings


def resolved(node: Any) -> Any:
    """The plain values of a config node, with its interpolations resolved where it stands."""
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node

"""Typed settings of a rented machine, under `provider:` in a job's config.

The values come from the app's config files (here `conf/provider/`): nothing about money has a default in code. A provider
adds its own settings in a subclass, in its own folder. `Timing` holds deadlines and intervals that few users change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from launchers.errors import MendInput

POSITIVE = 1e-9
"""Lower bound of settings that must be above 0."""
Value = TypeVar("Value")


def bounded(default: Value, low: float, high: float) -> Value:
    """A settings field with its default, and the range that `launchers.ranges` checks."""
    found: Value = field(default=default, metadata={"range": (low, high)})
    return found


@dataclass
class RentalSettings:
    """Settings of every provider."""

    name: str = MISSING
    gpu: str | None = None
    """The GPU, by any common name ("4090", "RTX 4090", "A100-80GB"); null rents without asking for one."""
    num_gpus: int = MISSING
    nodes: int = 1
    """Machines that run one job together."""
    max_price: float = MISSING
    """$ per hour for the whole machine, including storage."""
    max_cost: float | None = None
    """$ per job, for all its machines; null: only max_price x max_hours limits it."""
    max_total_cost: float | None = None
    """$ per launch, for all its machines; null: only the caps of each job limit it."""
    max_hours: float = MISSING
    """Hours per job on all its machines, including those that never came up. A watchdog on each machine enforces it without a
    client."""
    spot: bool = MISSING
    """Rent a spot machine: cheaper, but it can be preempted at any time."""
    disk_gb: int = MISSING
    min_gpu_memory_gib: float = MISSING
    min_disk_gb: int = MISSING
    """Free disk that the machine must have once it is up."""
    min_download_mbps: float = MISSING
    image: str = MISSING
    region: str | None = None
    api_url: str | None = None
    """null: the provider's own address. A rehearsal uses an emulator's."""
    remote_root: str = MISSING
    """Folder on the machine that holds all files of this tool."""
    python: str | None = None
    """null: the image's Python, with the job's locked dependencies in a virtual environment on top."""
    apt: list[str] = field(default_factory=list)
    """Debian packages that a job needs, installed if missing and permitted; ignored if `python` is set."""
    provided: dict[str, list[str]] = field(default_factory=dict)
    """Packages that stay the image's own where its Python can import them, such as those built for its driver; each with the
    beginnings of the requirements that it brings along, which are not installed then."""
    check_gpu: bool = MISSING
    """Refuse a machine with another GPU than the offer's; false in a rehearsal without GPUs."""
    machines: int = MISSING
    """Machines that a sweep may rent at the same time."""
    max_restarts: int = MISSING
    """How often a job may move to a new machine after losing one."""
    sync_every_s: float = MISSING
    detach: bool = MISSING
    """Return once the job runs; `python -m launchers attach` downloads the results."""
    dry_run: bool = MISSING
    """Print the plan; rent nothing."""
    entry_point: str | None = None
    """Module that the machine runs with `python -m`; null: the module of this process."""
    remote_overrides: list[str] = field(default_factory=list)
    """Overrides that make the job run in place on the machine, such as provider=local."""
    local_paths: list[str] = field(default_factory=list)
    """Config keys whose value is a local file or folder: it is uploaded, and the key names the copy. `key?`: its value may also
    be something else, such as an id on a hub, which is left as it is."""
    sync_early: list[str] = field(default_factory=list)
    """Patterns, relative to the job's folder, of files to download while the job runs."""
    storage: str | None = None
    """Where jobs keep their folders outside of their machines: `fetch` reads it when a machine is gone."""
    objective: str | None = None
    """Name of the value that a job returns: its column in tables."""
    max_results_gb: float = 200.0
    """Local disk space for a job's results; files beyond it are listed, not downloaded."""
    max_log_mb: float = 200.0
    """Local disk space for a job's log; the middle of a longer one is dropped."""
    pass_environment: list[str] = field(default_factory=list)
    """Environment variables passed to the job; their values are never written to a file."""
    needed_environment: str | None = None
    """`module:function`: config -> names of further variables that this job needs."""
    forecast: str | None = None
    """`module:function`: config -> expected hours; null plans with max_hours."""
    carry: str | None = None
    """`module:function`: config -> prepared local data that saves the job work (path -> file or folder), most needed first.
    Uploaded up to `max_carry_mb`; the variable `CARRIED_DATA` names its folder on the machine."""
    max_carry_mb: float = 0.0
    expected_download_gb: float = MISSING
    """Download before the job can start: image, packages, models, data."""
    expected_results_gb: float = 0.0
    """Results to download after the job has ended."""
    max_snapshot_mb: float = MISSING

    @property
    def cuda(self) -> float | None:
        """CUDA version that a machine's driver must support; None: any. Providers whose market knows it have a setting."""
        return None


@dataclass
class Timing:
    """Deadlines and intervals, in seconds."""

    boot: float = 1200.0
    """From the create call to a running container."""
    ssh: float = 180.0
    """From a running container to a login."""
    setup: float = 1800.0
    poll: float = 10.0
    """Between two requests to the provider about one machine; faster requests are answered with 429."""
    status: float = 5.0
    """Between two status requests for a running job."""
    unreachable: float = 600.0
    """How long a machine that the provider lists as running may be unreachable before it counts as lost."""
    idle: float = 1800.0
    """How long a machine waits after its job ended for a client to download the results, before it destroys itself."""
    grace: float = 60.0
    """Between asking a job to stop (so that it can save a checkpoint) and killing it."""
    fetch: float = 1800.0
    """How long results may be downloaded after a cap or Ctrl-C, before the machine is destroyed without them."""
    second_interrupt: float = 5.0
    """After a Ctrl-C that detaches: the time in which a second one ends the jobs."""
    retry_first: float = 1.0
    """First pause after a failed request; each next one is twice as long, up to one minute."""
    retry_total: float = 180.0
    """How long a request to a provider is retried."""
    max_attempts: int = 4
    """Offers tried for one machine."""


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
            raise MendInput(
                f"Missing settings: {', '.join(f'{where}.{key}' for key in missing)}. Set them in the config."
            )
        settings = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise MendInput(f"{where} is invalid: {str(error).splitlines()[0]}.") from None
    assert isinstance(settings, schema)
    return settings


def resolved(node: Any) -> Any:
    """The plain values of a config node, with its interpolations resolved in place."""
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node

"""The settings that only Modal has."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from launchers.settings import POSITIVE, RentalSettings, bounded


@dataclass
class ModalSettings(RentalSettings):
    """All settings of `provider=modal`."""

    gpu_fallback: list[str] = field(default_factory=list)
    """Cards to take, in this order, while none of `gpu` is free."""
    parallelism: int | None = None
    """Containers at once; null: as many as the workspace allows. The rest of a sweep queues at Modal."""
    timeout_s: int = 86_400
    """Seconds of one attempt, at most 86400; a job with more max_hours continues in the next attempt, from its checkpoint."""
    startup_timeout_s: int = 1800
    """Seconds that a container may take to start."""
    retry_delay_s: float = 5.0
    """Seconds between two attempts, at most 60."""
    grace_s: float = 20.0
    """Seconds between asking a job to stop and killing it; Modal itself kills an interrupted container after about 30."""
    environment: str | None = None
    """Modal's environment; null: the profile's."""
    volume: str = MISSING
    """Holds the jobs' folders."""
    mount_path: str = "/mnt/outputs"
    cache_volume: str = MISSING
    """Holds what later jobs use again: models, prepared data."""
    cache_path: str = "/mnt/cache"
    variables: dict[str, str] = field(default_factory=dict)
    """Environment variables of each job, in plain text; `{job}` in a value becomes the job's id."""
    cpu: float | None = bounded(None, POSITIVE, 1000)
    """Cores to reserve; null: Modal's default."""
    memory_mib: int | None = bounded(None, 1, 100_000_000)
    """Memory to reserve; null: Modal's default."""
    cloud: str | None = None
    secrets: list[str] = field(default_factory=list)
    """Names of Secrets stored at Modal, handed to the job."""
    keep_remote: bool = True
    """false: a job's folder on the Volume is removed once its results are here and verified."""

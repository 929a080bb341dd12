"""A job as one launch sees it: what it runs on, and what it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.job import JobSpec
from launchers.lifecycle.context import LaunchContext
from launchers.planning import Forecast, forecast
from launchers.providers.base import Serverless
from launchers.settings import RentalSettings
from launchers.snapshot import Snapshot

SAME_MACHINE = (
    "name", "gpu", "num_gpus", "spot", "disk_gb", "min_gpu_memory_gib", "image", "region", "api_url", "remote_root",
)  # fmt: skip
"""Settings that two jobs must share to run on one machine."""


@dataclass
class Task:
    """A job and what this process knows of it."""

    job: JobSpec
    context: LaunchContext
    snapshot: Snapshot
    restarts: int = 0

    @property
    def kind(self) -> tuple[object, ...]:
        settings = self.context.settings
        # Where no machine is, secrets go to the application and not to the job.
        secrets = tuple(settings.pass_environment) if isinstance(self.context.provider, Serverless) else ()
        return (*(getattr(settings, name) for name in SAME_MACHINE), secrets)


def forecast_of(job: JobSpec, settings: RentalSettings) -> Forecast:
    """What a job is expected to take, as its dry run shows it."""
    return forecast(job.hours, settings)

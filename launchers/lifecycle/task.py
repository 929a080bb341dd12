"""A job as one launch sees it: what it runs on, and what it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.capsule import Capsule
from launchers.job import JobSpec
from launchers.lifecycle.office import Office
from launchers.plan import Forecast
from launchers.providers.base import Serverless
from launchers.settings import RentalSettings

SAME_MACHINE = (
    "name", "gpu", "num_gpus", "spot", "disk_gb", "min_gpu_memory_gib", "image", "region", "api_url", "remote_root",
)  # fmt: skip
"""Settings that two jobs must share to run on one machine."""


@dataclass
class Task:
    """A job and what this process knows of it."""

    job: JobSpec
    office: Office
    capsule: Capsule
    restarts: int = 0

    @property
    def kind(self) -> tuple[object, ...]:
        settings = self.office.settings
        # Where no machine is, secrets go to the application and not to the job.
        secrets = tuple(settings.pass_environment) if isinstance(self.office.provider, Serverless) else ()
        return (*(getattr(settings, name) for name in SAME_MACHINE), secrets)


def forecast_of(job: JobSpec, settings: RentalSettings, capsule: Capsule | None = None) -> Forecast:
    """What a job is expected to take; without a forecast of its own, the upper bound."""
    shipped = capsule.size / 1e9 if capsule else 0.0
    return Forecast(job.hours, job.hours < settings.max_hours, settings.expected_download_gb + shipped)

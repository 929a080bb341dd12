"""A job as one launch sees it: what it runs on, and what it is expected to take."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.job import JobSpec
from launchers.lifecycle.context import LaunchContext
from launchers.planning import Forecast, forecast
from launchers.snapshot import Snapshot


@dataclass
class Task:
    """A job and what this process knows of it."""

    job: JobSpec
    context: LaunchContext
    snapshot: Snapshot
    restarts: int = 0

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs share to run in one lease."""
        return self.context.capacity.kind_of(self.context.settings)


def forecast_of(task: Task) -> Forecast:
    """What a job is expected to take, as its dry run shows it."""
    context = task.context
    return forecast(task.job.hours, context.settings, context.ledger.losses(context.clock.now()))

"""A sweep as a launcher sees it: composed jobs that are handed out one by one, each checked when it is its turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn

from launchers.dispatch import first_words
from launchers.search.sweep import Assigned, Sweep
from launchers.search.trials import TrialState
from launchers.secrecy import scrub

if TYPE_CHECKING:
    from launchers.dispatch import ComposedJob

log = logging.getLogger("launchers")


@dataclass
class SweepJobs:
    """The jobs of one launcher. Thread-safe, as the sweep is."""

    sweep: Sweep[ComposedJob]
    target: str
    """The launcher's class: jobs that name another one are not handed out."""
    check: Callable[[ComposedJob], None] | None
    """Refuses a drawn job; None where all jobs were checked before the first began."""
    returns: dict[int, JobReturn] = field(default_factory=dict)
    say: Callable[[str], None] = print
    """Prints a line on the sweep's console."""
    _handed: dict[int, tuple[Assigned[ComposedJob], float]] = field(default_factory=dict)

    def next(self) -> ComposedJob | None:
        """The next job; None when there is none now."""
        while (assigned := self.sweep.next(lambda job: job.target == self.target)) is not None:
            job = assigned.prepared.job
            self._handed[job.number] = (assigned, time.monotonic())
            log.info("%s", first_words(job))
            if self.check is None or (why := self._refusal(job)) is None:
                return job
            log.warning("job %d can't run: %s", job.number, why)
            self.ended(job, TrialState.failed, note=why)
        return None

    def _refusal(self, job: ComposedJob) -> str | None:
        assert self.check is not None
        try:
            self.check(job)
        except Exception as error:  # the app's own classes
            return scrub(str(error))
        return None

    def put_back(self, job: ComposedJob) -> None:
        """The job lost its machine, or found none: it is the next one that is handed out."""
        self.sweep.put_back(job.number, self._handed[job.number][0].prepared)

    def report(self, job: ComposedJob, step: int, value: float) -> bool:
        """Take a value that a running job has measured; returns whether the job should save and end."""
        return self.sweep.report(job.number, step, value)

    def ended(
        self, job: ComposedJob, state: TrialState, value: Any = None, *, cost: float = 0.0, seconds: float | None = None,
        note: str | None = None,
    ) -> TrialState:  # fmt: skip
        """A job has ended; `seconds` where they are not those since it was handed out."""
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
        took = time.monotonic() - self._handed[job.number][1] if seconds is None else seconds
        return self.sweep.ended(job.number, state, number, cost=cost, seconds=took, note=note).state

    def stopped(self, why: str) -> None:
        """A stop struck this process: what ran in it runs no more, also a job that was just being handed out."""
        for trial in self.sweep.all():
            handed = self._handed.get(trial.number)
            if trial.state is TrialState.running and (handed or trial.job is None):
                took = time.monotonic() - handed[1] if handed else 0.0
                self.sweep.ended(trial.number, TrialState.stopped, seconds=took, note=why)

    def dollars_left(self) -> float | None:
        """Of the sweep's own limit; None where there is none."""
        limit = self.sweep.settings.max_cost
        return None if limit is None else max(limit - self.sweep.spent().dollars, 0.0)

    def value_of(self, job: ComposedJob) -> float | None:
        """What the sweep holds of a job that has ended."""
        return self.sweep.known[job.number].value

    def is_over(self) -> bool:
        return self.sweep.is_over()

    def why_stop(self) -> str | None:
        """Why everything that runs should save and end."""
        return self.sweep.why_stop()

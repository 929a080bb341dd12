"""What a sweep may spend: dollars of all jobs, hours of this command, and jobs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spent:
    dollars: float = 0.0
    """Of all starts of the sweep, what runs included."""
    hours: float = 0.0
    """Since this command began."""
    jobs: int = 0
    """Begun, in all starts of the sweep."""


@dataclass(frozen=True)
class Budget:
    max_cost: float | None = None
    max_hours: float | None = None
    max_jobs: int | None = None

    def why_stop(self, spent: Spent) -> str | None:
        """Why what runs should save and end: money or time is over."""
        if self.max_cost is not None and spent.dollars >= self.max_cost:
            return f"hydra.sweeper.max_cost is reached: ${spent.dollars:.2f} of ${self.max_cost:.2f}"
        if self.max_hours is not None and spent.hours >= self.max_hours:
            return f"hydra.sweeper.max_hours is reached: {spent.hours:.2f} h of {self.max_hours:g} h"
        return None

    def why_no_more(self, spent: Spent) -> str | None:
        """Why no further job begins."""
        if self.max_jobs is not None and spent.jobs >= self.max_jobs:
            return f"hydra.sweeper.max_jobs is reached: {spent.jobs} jobs have begun"
        return self.why_stop(spent)

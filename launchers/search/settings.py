"""What a sweep is told: the keys below `hydra.sweeper`, their ranges, and which of them exclude each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from launchers.errors import MendInput


class Sampler(StrEnum):
    """How the next point is chosen."""

    grid = "grid"
    random = "random"
    tpe = "tpe"
    cmaes = "cmaes"


class PrunerName(StrEnum):
    """Which running jobs end early."""

    none = "none"
    median = "median"
    halving = "halving"
    """Successive halving: a job that is not among the best of its rung ends."""
    asha = "asha"
    """The same, but such a job is paused, and resumed once it is among the best after all."""


DIRECTIONS = ("minimize", "maximize")


@dataclass
class SweepSettings:
    """As Hydra composes them; `checked` returns them with enums, or says what is wrong."""

    params: dict[str, str] | None = None
    """Key -> values, in Hydra's override grammar; the command line adds to it."""
    params_from: str | None = None
    """Key of the app's config that holds more of them."""
    sampler: str = "grid"
    direction: str = "minimize"
    metric: str | None = None
    """What the objective is called, for tables."""
    n_trials: int = 20
    """Points of a search, over all its starts; a grid runs all of its points."""
    baseline: bool = False
    """A search begins with the config's own values of the swept keys, in a job that is never pruned."""
    pruner: str = "none"
    min_resource: int = 1
    """Validations that every job gets before it can be pruned."""
    reduction_factor: int = 3
    """One of so many jobs goes on to the next rung."""
    seeds: int = 1
    """Jobs per point, each with another seed."""
    seed_key: str = "seed"
    sampler_seed: int = 0
    max_cost: float | None = None
    """$ of all jobs together."""
    max_hours: float | None = None
    """Hours from the start of this command."""
    max_jobs: int | None = None
    accept_changes: bool = False
    """Mix results of changed code or data with those that are here."""
    ignore: list[str] = field(default_factory=lambda: ["provider"])
    """Keys that no result depends on: a job stays the same job when they change."""
    only_in_sweeps: list[str] = field(default_factory=list)
    """Keys of the command line that make many jobs of one: left out of the command that runs a single job again."""
    figures: list[str] = field(default_factory=list)
    """Names in a job's metrics.json that the closing table shows beside the objective."""
    data_digest: str | None = None
    """A function of the app, "package.module.function", that names the data a job's config reads."""

    @property
    def searches(self) -> bool:
        return self.sampler != Sampler.grid

    @property
    def better(self) -> float:
        """Times a value: higher is better."""
        return 1.0 if self.direction == "maximize" else -1.0


_AT_LEAST = {
    "n_trials": 1, "min_resource": 1, "reduction_factor": 2, "seeds": 1, "max_jobs": 1, "sampler_seed": 0,
}  # fmt: skip
_ABOVE_ZERO = ("max_cost", "max_hours")


def checked(given: dict[str, Any]) -> SweepSettings:
    """The settings of a composed `hydra.sweeper`.

    Raises:
        MendInput: a value that cannot be meant.
    """
    settings = SweepSettings(**{str(key): value for key, value in given.items() if key != "_target_"})
    direction = getattr(settings.direction, "name", settings.direction)
    settings.direction = str(direction)
    if settings.direction not in DIRECTIONS:
        raise MendInput(f"hydra.sweeper.direction={direction} is unknown: use {' or '.join(DIRECTIONS)}.")
    for key, kind in (("sampler", Sampler), ("pruner", PrunerName)):
        value = str(getattr(settings, key))
        if value not in list(kind):
            raise MendInput(f"hydra.sweeper.{key}={value} is unknown: use one of {', '.join(kind)}.")
        setattr(settings, key, value)
    for key, least in _AT_LEAST.items():
        value = getattr(settings, key)
        if value is not None and value < least:
            raise MendInput(f"hydra.sweeper.{key}={value} must be at least {least}.")
    for key in _ABOVE_ZERO:
        value = getattr(settings, key)
        if value is not None and not value > 0:
            raise MendInput(f"hydra.sweeper.{key}={value} must be above 0.")
    if settings.pruner != PrunerName.none and settings.seeds > 1:
        raise MendInput("A sweep with several seeds per point is not pruned: set seeds=1 or pruner=none.")
    return settings

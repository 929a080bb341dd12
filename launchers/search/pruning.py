"""Which jobs of a search go on: pure functions of what all of them have reported, in units of validations.

Successive halving is written here, because Optuna's pruners only stop: here a job that is not among the best of its rung is
paused, and resumed when others have made it one of the best (ASHA, Li et al. 2020, arXiv 1810.05934).
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

Curves = Mapping[int, Sequence[float]]
"""Trial -> its values at validations, in order; higher is better."""


class Verdict(StrEnum):
    """What a job is told after a validation."""

    go_on = "go_on"
    pause = "pause"
    end = "end"


def rung_of(validations: int, least: int, factor: int) -> int | None:
    """The rung that a job stands on right now: 0 after `least` validations, 1 after `least` x `factor`; None between them."""
    rung, at = 0, least
    while at < validations:
        rung, at = rung + 1, at * factor
    return rung if at == validations else None


def reached(validations: int, least: int, factor: int) -> int:
    """The highest rung that a job has passed or stands on; -1 for none."""
    rung, at = -1, least
    while at <= validations:
        rung, at = rung + 1, at * factor
    return rung


def best_of_rung(curves: Curves, rung: int, least: int, factor: int) -> list[int]:
    """The trials that a rung promotes: the best 1/factor of those that have come to it. Ties go to the earlier trial."""
    at = least * factor**rung
    there = [(values[at - 1], -trial) for trial, values in curves.items() if len(values) >= at]
    there.sort(reverse=True)
    return [-trial for _, trial in there[: len(there) // factor]]


def halving(curves: Curves, trial: int, least: int, factor: int) -> bool:
    """Whether a job that stands on a rung may go on."""
    rung = rung_of(len(curves[trial]), least, factor)
    return rung is None or trial in best_of_rung(curves, rung, least, factor)


def halving_or_first(curves: Curves, trial: int, least: int, factor: int) -> bool:
    """The same where nothing resumes a stopped job: before a rung has seen `factor` jobs, its best one goes on."""
    rung = rung_of(len(curves[trial]), least, factor)
    if rung is None or trial in best_of_rung(curves, rung, least, factor):
        return True
    at = least * factor**rung
    there = [values[at - 1] for values in curves.values() if len(values) >= at]
    return len(there) < factor and curves[trial][at - 1] >= max(there)


def median(curves: Curves, trial: int, least: int, first: int = 4) -> bool:
    """Whether a job is at least as good as the median of at least `first` others after as many validations."""
    here = len(curves[trial])
    others = [max(values[:here]) for number, values in curves.items() if number != trial and len(values) >= here]
    return here < least or len(others) < first or max(curves[trial]) >= statistics.median(others)


def to_resume(curves: Curves, paused: Sequence[int], least: int, factor: int) -> int | None:
    """The paused trial that deserves the next machine: of the highest rung that promotes one, its best."""
    by_rung: dict[int, list[int]] = {}
    for trial in paused:
        by_rung.setdefault(reached(len(curves[trial]), least, factor), []).append(trial)
    for rung in sorted(by_rung, reverse=True):
        if rung < 0:
            continue
        for trial in best_of_rung(curves, rung, least, factor):
            if trial in by_rung[rung]:
                return trial
    return None


def to_finish(values: Mapping[int, float], paused: Collection[int]) -> int | None:
    """The paused trial that is the best of all: a search ends with its best job run to its end, not with a part of it."""
    best = max(values, key=lambda trial: (values[trial], -trial), default=None)
    return best if best in paused else None


def resumed_at(validations: int, least: int, factor: int) -> int:
    """Validations until the rung after the one that a job stands on."""
    return least * factor ** (reached(validations, least, factor) + 1) - validations

"""Whether the figures of a rerun agree with those of the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MEASURED_TIME = ("seconds", "per_second", "data_wait_share", "memory_gib", "mfu")
"""Ends of the names that measure a machine and not a model."""


class Verdict(StrEnum):
    equal = "equal"  # to the last bit
    within = "within the interval"
    differs = "differs"
    missing = "missing"


@dataclass(frozen=True)
class Agreement:
    """One figure then and now."""

    name: str
    then: float
    now: float | None
    verdict: Verdict


def agreements(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[Agreement]:
    """Each figure of the model's quality, in the order of names; figures of speed are no part of a result.

    A figure with an interval (`test/rougeL` with `test/rougeL_low` and `_high`) may lie within it; baselines and counts
    depend on the data alone and must be equal.
    """
    found = []
    for name, value in sorted(then.items()):
        if not isinstance(value, int | float) or name.endswith((*MEASURED_TIME, "_low", "_high")):
            continue
        new = now.get(name)
        if not isinstance(new, int | float):
            found.append(Agreement(name, float(value), None, Verdict.missing))
            continue
        low, high = then.get(f"{name}_low"), then.get(f"{name}_high")
        if new == value:
            verdict = Verdict.equal
        elif low is not None and high is not None and low <= new <= high:
            verdict = Verdict.within
        else:
            verdict = Verdict.differs
        found.append(Agreement(name, float(value), float(new), verdict))
    return found


def summary(found: list[Agreement]) -> tuple[bool, str]:
    """Whether the rerun agrees, and the verdict in one sentence.

    Figures with intervals decide; where all figures are equal, the rerun is bit-equal.
    """
    if not found:
        return False, "the run has no figures to compare"
    if all(a.verdict is Verdict.equal for a in found):
        return True, f"all {len(found)} figures are equal to the last bit"
    judged = [
        a
        for a in found
        if a.name in ("test/rouge1", "test/rouge2", "test/rougeL", "validation/rougeL", "validation/loss")
    ]
    with_interval = [a for a in judged if a.name.startswith("test/")] or judged
    outside = [a.name for a in with_interval if a.verdict in (Verdict.differs, Verdict.missing)]
    if outside:
        return False, f"{', '.join(outside)} {'lies' if len(outside) == 1 else 'lie'} outside the run's 95 % interval"
    return True, "the test figures lie within the run's 95 % intervals, but are not bit-equal"

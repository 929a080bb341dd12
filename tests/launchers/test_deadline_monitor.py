"""When a machine is destroyed whatever it says, and the monitor's word on it: destroyed, or named as still billed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from launchers.capacity.base import Capacity
from launchers.capacity.machines import MachineCapacity
from launchers.capacity.serverless import ServerlessCapacity
from launchers.clock import WallClock
from launchers.errors import Cancelled, Capped, StillBilled
from launchers.lifecycle.deadlines import (
    CANCELLED,
    CREATE_S,
    MAX_COST,
    MAX_HOURS,
    OVER_S,
    DeadlineMonitor,
    MachineDeadline,
    Phase,
)
from launchers.planning import reserve
from launchers.settings import Timing


@pytest.mark.parametrize("trouble", [OSError("disk full"), KeyError("instance"), StillBilled("STILL BILLED: x")])
def test_a_machine_that_could_not_be_destroyed_is_named_as_still_billed_whatever_went_wrong(trouble: Exception) -> None:
    def end(guard: MachineDeadline) -> None:
        raise trouble

    monitor = DeadlineMonitor()
    monitor._end = end
    guard = MachineDeadline("launchers-c-l-0", cast(Any, SimpleNamespace(launch="l", clock=WallClock())))
    monitor._destroy(guard)
    assert guard.done.is_set()
    assert "STILL BILLED" in str(guard.problem)


def deadline(phase: Phase = Phase.running, capacity: Capacity = MachineCapacity()) -> MachineDeadline:  # noqa: B008
    context = SimpleNamespace(launch="l", timing=Timing(), capacity=capacity)
    return MachineDeadline("m", cast(Any, context), phase, deadline=10_000.0)


SAVING = Timing().grace + OVER_S + 2 * Timing().status
FETCHING = reserve(Timing())


@pytest.mark.parametrize(
    ("phase", "waits"),
    [
        (Phase.creating, CREATE_S), (Phase.idle, 0.0), (Phase.setup, 0.0), (Phase.running, SAVING), (Phase.syncing, FETCHING),
        (Phase.fetching, FETCHING),
    ],
)  # fmt: skip
def test_after_a_stop_a_machine_has_what_its_phase_needs(phase: Phase, waits: float) -> None:
    guard = deadline(phase)
    assert guard.limit(None) == (10_000.0, MAX_HOURS)
    assert guard.limit(1000.0) == (1000.0 + waits, CANCELLED)
    assert guard.limit(9_999.0 + 10_000.0)[0] == 10_000.0


def test_a_job_that_was_asked_to_end_keeps_its_own_reason_and_its_earlier_time() -> None:
    guard = deadline()
    guard.ask(500.0, MAX_COST)
    guard.ask(600.0, CANCELLED)
    assert guard.limit(None) == (500.0 + SAVING, MAX_COST)
    assert guard.limit(700.0) == (500.0 + SAVING, MAX_COST)
    assert guard.limit(400.0)[0] == 400.0 + SAVING


def test_where_only_jobs_are_billed_a_stop_leaves_time_to_download() -> None:
    assert deadline(Phase.idle, ServerlessCapacity()).limit(1000.0)[0] == 1000.0 + FETCHING


@pytest.mark.parametrize(("why", "error"), [(CANCELLED, Cancelled), (MAX_HOURS, Capped), (MAX_COST, Capped)])
def test_past_its_deadline_a_machine_says_why(why: str, error: type[Exception]) -> None:
    guard = deadline()
    guard.check()
    guard.over = why
    with pytest.raises(error):
        guard.check()

"""The monitor's word on a machine: destroyed, or named as still billed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from launchers.clock import WallClock
from launchers.errors import StillBilled
from launchers.lifecycle.deadlines import DeadlineMonitor, MachineDeadline


@pytest.mark.parametrize("trouble", [OSError("disk full"), KeyError("instance"), StillBilled("STILL BILLED: x")])
def test_a_machine_that_could_not_be_destroyed_is_named_as_still_billed_whatever_went_wrong(trouble: Exception) -> None:
    def end(guard: MachineDeadline) -> None:
        raise trouble

    monitor = DeadlineMonitor()
    monitor._end = end
    guard = MachineDeadline("launchers-c-l-0", cast(Any, SimpleNamespace(launch="l", clock=WallClock())), per_job=False)
    monitor._destroy(guard)
    assert guard.done.is_set()
    assert "STILL BILLED" in str(guard.problem)

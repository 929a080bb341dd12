"""Schedules that broke a promise once; `test_machines.py` says which promises there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import Schedule
from tests.launchers.schedules.trials import try_schedule

FOUND = {
    "the ledger refuses the id of a machine that was just created": Schedule(
        market="machines", jobs=1, machines=1, timed=(TimedFault(kind="ledger refuses", after=4.0, seconds=2.0),),
        script=Script(steps=6, step_s=2.0, checkpoint_every=2),
    ),
    "the answer to a resume call is lost, and the machine has another id": Schedule(
        market="pausing", calls=(CallFault("resume", "lost"),), timed=(TimedFault("preempted", 7.0, 2.0),)
    ),
    "a kept machine ends by itself before attach comes for it": Schedule(
        jobs=3, machines=2, timed=(TimedFault("disk full", 2.0, 40.0), TimedFault("cancel", 0.5)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FOUND))
def test_a_schedule_that_broke_a_promise_once_keeps_all_of_them(name: str, tmp_path: Path):
    try_schedule(FOUND[name], tmp_path / "launch")

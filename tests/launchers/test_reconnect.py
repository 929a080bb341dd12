"""A client that is killed at any moment: the machine ends itself, or `attach` takes the launch up, and each hour is charged once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.errors import MendInput
from launchers.job import JobState
from launchers.lifecycle.reconnect import claimed
from launchers.testing.clock import VirtualClock
from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import FakeLaunch, Schedule
from launchers.testing.settings import TIMING

Killed = Callable[..., FakeLaunch]


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Killed]:
    """A launch whose client dies after some seconds: `killed(12.0, jobs=2)`, with the fields of a `Schedule`."""
    with VirtualClock() as clock:

        def go(after: float, **fields: Any) -> FakeLaunch:
            fields["timed"] = (*fields.get("timed", ()), TimedFault("client killed", after))
            launch = FakeLaunch(tmp_path / "launch", Schedule(**fields), clock).run()
            assert launch.exit_code == 137
            return launch

        yield go


@pytest.mark.parametrize("after", [0.05, 0.35, 0.5, 3.0, 6.0, 9.0, 12.0, 15.0])
@pytest.mark.parametrize("market", ["machines", "pausing", "serverless"])
def test_attach_finishes_what_a_killed_client_began_whenever_it_died(killed: Killed, market: str, after: float):
    launch = killed(after, market=market, jobs=2)
    launch.attach()
    assert [record.state for record in launch.records()] == [JobState.finished] * 2
    assert launch.broken_promises_of_attach() == []


def test_a_job_that_ran_on_goes_on_where_it_is_and_its_log_has_no_gap(killed: Killed):
    launch = killed(13.0, script=Script(steps=20))
    launch.attach()
    (machine,) = launch.machines
    assert len(machine.started) == 1
    log = (launch.jobs[0].home / "remote.log").read_text()
    assert log.splitlines() == [f"step {step}" for step in range(1, 21)]


def test_each_second_of_a_machine_is_charged_once(killed: Killed):
    launch = killed(20.0, script=Script(steps=40))
    launch.attach(later=30.0)
    (record,), (machine,) = launch.records(), launch.machines
    assert record.cost == pytest.approx(machine.billed_s(0) * machine.price / 3600, rel=0.1)
    assert record.seconds == pytest.approx(machine.billed_s(0), rel=0.1)


def test_hours_that_nobody_watched_count_towards_the_cap(killed: Killed):
    launch = killed(20.0, script=Script(steps=500), settings={"max_hours": 60 / 3600})
    launch.attach(later=55.0)
    assert launch.records()[0].state is JobState.capped


def test_a_machine_without_a_client_ends_itself_when_its_job_has_ended(killed: Killed):
    launch = killed(12.0)
    launch.clock.sleep(12 + TIMING.idle + 5)
    assert launch.living() == []


def test_a_machine_without_a_client_ends_itself_when_its_lease_is_over(killed: Killed):
    launch = killed(12.0, script=Script(steps=10_000), settings={"max_hours": 60 / 3600})
    launch.clock.sleep(60 + TIMING.fetch + TIMING.idle + 10)
    assert launch.living() == []


def test_after_the_machine_has_ended_itself_the_job_goes_on_elsewhere_from_its_checkpoint(killed: Killed):
    launch = killed(18.0, script=Script(steps=30), settings={"max_hours": 0.5})
    launch.attach(later=600.0)
    (record,) = launch.records()
    assert record.state is JobState.finished
    first, second = launch.machines
    assert first.started[0][2] == 0
    assert second.started[0][2] >= 2


def test_a_machine_whose_create_call_nobody_saw_answered_is_found_by_its_label(killed: Killed):
    launch = killed(0.45, calls=(CallFault("create", "lost"),))
    assert len(launch.living()) == 1
    launch.attach()
    assert launch.living() == []
    assert launch.broken_promises_of_attach() == []


def test_a_paused_machine_is_resumed_by_attach(killed: Killed):
    launch = killed(16.0, market="pausing", script=Script(steps=20))
    launch.living()[0].pause(launch.clock.now())
    launch.attach()
    assert launch.records()[0].state is JobState.finished
    assert len(launch.machines) == 1


def test_one_client_at_a_time_attends_to_a_launch(tmp_path: Path):
    with claimed(tmp_path, "launch"):
        with claimed(tmp_path, "another"):
            pass
        with pytest.raises(MendInput, match="launch"), claimed(tmp_path, "launch"):
            pass
    with claimed(tmp_path, "launch"):
        pass

"""What is known although the ledger or the client missed it: a job whose results are here, and a machine that ended by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launchers.job import JobState, Results
from launchers.lifecycle.ended import Ended, read_proof, write_proof
from launchers.testing.clock import VirtualClock
from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import FakeLaunch, Schedule
from launchers.testing.provider import FakeProvider
from launchers.testing.settings import TIMING

Make = Callable[..., FakeLaunch]


@pytest.fixture
def make(tmp_path: Path):
    """Makes a launch that was not started yet, with the fields of a `Schedule`."""
    with VirtualClock() as clock:
        yield lambda **fields: FakeLaunch(tmp_path / "launch", Schedule(**fields), clock)


def starts(launch: FakeLaunch) -> int:
    return sum(len(machine.started) for machine in launch.machines)


REFUSED = {
    "the end": "UPDATE OF state ON jobs WHEN NEW.state NOT IN ('waiting', 'running')",
    "what is here": "UPDATE OF results ON jobs WHEN NEW.results = 'verified'",
    "everything about jobs once results are here": (
        "UPDATE ON jobs WHEN OLD.results = 'verified' OR NEW.results = 'verified' OR NEW.state = 'finished'"
    ),
}


@pytest.mark.parametrize("market", ["machines", "serverless"])
@pytest.mark.parametrize("refused", list(REFUSED))
def test_a_job_whose_results_are_here_is_not_run_again_though_the_ledger_missed_its_end(
    make: Make, market: str, refused: str
):
    launch = make(market=market, jobs=2)
    with launch.ledger.transaction() as db:
        db.execute(f"CREATE TRIGGER full BEFORE {REFUSED[refused]} BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    launch.run()
    # That the ledger still calls them running is what is refused here.
    assert [problem for problem in launch.broken_promises() if not problem.endswith("is running at the end")] == []
    assert launch.living() == []
    assert any("does not run again" in line for line in launch.said)
    assert starts(launch) == 2
    with launch.ledger.transaction() as db:
        db.execute("DROP TRIGGER full")
    launch.attach()
    assert [(r.state, r.results, r.value) for r in launch.records()] == [(JobState.finished, Results.verified, 6)] * 2
    assert starts(launch) == 2
    assert launch.broken_promises_of_attach() == []


def test_a_machine_that_is_lost_right_after_the_download_costs_no_second_run(make: Make):
    launch = make(calls=(CallFault("discard", "bad"),)).run()
    assert [str(record.state) for record in launch.records()] == ["finished"]
    assert starts(launch) == 1


def test_a_proof_counts_for_its_own_job_only_and_only_when_it_makes_sense(make: Make):
    first, second = make(jobs=2).jobs
    assert read_proof(first) is None
    first.home.mkdir(parents=True)
    write_proof(first, Ended(JobState.capped, "provider.max_hours is reached", {"loss": 1.5}))
    assert read_proof(first) == Ended(JobState.capped, "provider.max_hours is reached", {"loss": 1.5})
    second.home.mkdir(parents=True)
    (second.home / ".ended.json").write_text((first.home / ".ended.json").read_text())
    assert read_proof(second) is None
    for text in ("", "[]", '{"job": "launch-0", "state": "running"}', '{"job": "launch-0", "state": ["finished"]}'):
        (first.home / ".ended.json").write_text(text)
        assert read_proof(first) is None


# --- trouble of this computer is no verdict about a job


@pytest.mark.parametrize("after", [0.5, 2.0, 4.0, 6.0, 9.0, 12.0])
@pytest.mark.parametrize("kind", ["ledger refuses", "disk full"])
def test_trouble_of_this_computer_at_any_moment_leaves_the_job_to_attach(make: Make, kind: str, after: float):
    script = Script(steps=6, step_s=2.0, checkpoint_every=2)
    launch = make(timed=(TimedFault(kind, after, 2.0),), script=script).run()
    assert launch.broken_promises() == []
    if launch.is_open():
        launch.attach()
    assert [str(record.state) for record in launch.records()] == ["finished"]
    assert launch.broken_promises_of_attach() == []


def test_jobs_that_such_trouble_kept_from_starting_are_left_to_attach_as_well(make: Make):
    launch = make(jobs=3, timed=(TimedFault("ledger refuses", 4.0, 2.0),)).run()
    assert JobState.failed not in [record.state for record in launch.records()]
    assert any("python -m launchers attach launch" in line for line in launch.said)
    launch.attach()
    assert [str(record.state) for record in launch.records()] == ["finished"] * 3


# --- a machine that ended while nobody watched


def left_alone(make: Make, hours_later: float, **fields: Any) -> FakeLaunch:
    """A client that is killed while its job runs, and an `attach` that long after."""
    launch = make(timed=(TimedFault("client killed", 20.0),), settings={"max_hours": 60 / 3600}, **fields).run()
    return launch.attach(later=hours_later * 3600)


def test_a_machine_that_ended_itself_is_charged_to_the_end_of_its_lease_and_no_longer(
    make: Make, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(FakeProvider, "knows_ends", False)
    launch = left_alone(make, 3.0, script=Script(steps=600))
    machine, record = launch.machines[0], launch.ledger.machines()[0]
    assert machine.ended is not None
    assert record.ended is not None
    assert machine.ended <= record.ended == record.deadline
    assert record.ended - machine.ended <= TIMING.grace + TIMING.fetch
    job = launch.records()[0]
    assert job.cost == pytest.approx(sum(m.cost(m.ended or 0.0) for m in launch.ledger.machines()))
    assert job.seconds < 300


def test_a_provider_that_says_when_a_machine_ended_is_believed_within_the_lease(make: Make):
    launch = left_alone(make, 3.0, script=Script(steps=600))
    machine, record = launch.machines[0], launch.ledger.machines()[0]
    assert record.ended == machine.ended

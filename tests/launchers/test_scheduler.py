"""The scheduler, as whole launches in virtual time: who gets a machine, what a lost one costs, what ends a job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.job import Billing, JobState, Results
from launchers.lifecycle.scheduler import Scheduler
from launchers.lifecycle.source import TaskList
from launchers.lifecycle.task import Task
from launchers.testing.clock import VirtualClock
from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import FakeLaunch, Schedule

Run = Callable[..., FakeLaunch]
LONG = Script(steps=600)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Runs a launch to its end: `run(jobs=2, timed=(...))`, with the fields of a `Schedule`."""
    with VirtualClock() as clock:

        def go(**fields: Any) -> FakeLaunch:
            launch = FakeLaunch(tmp_path / "launch", Schedule(**fields), clock).run()
            assert launch.broken_promises() == []
            return launch

        yield go


def states(launch: FakeLaunch) -> list[str]:
    return [str(record.state) for record in launch.records()]


def starts(launch: FakeLaunch) -> list[tuple[str, int]]:
    """Each start of a job, with the step that it began at."""
    return [(job[-1], step) for machine in launch.machines for job, _, step in machine.started]


def test_a_job_gets_a_machine_its_results_come_home_and_the_machine_goes(run: Run):
    launch = run()
    (record,) = launch.records()
    assert (record.state, record.results, record.value) == (JobState.finished, Results.verified, 6)
    assert launch.local_step(record.spec) == 6
    assert (record.spec.home / "remote.log").read_text().splitlines() == [f"step {step}" for step in range(1, 7)]
    assert [machine.billing for machine in launch.ledger.machines()] == [Billing.gone]


def test_the_cheapest_offer_is_rented_first(run: Run):
    assert [machine.offer.price for machine in run(jobs=2, machines=2).machines] == [0.30, 0.32]


def test_a_machine_takes_one_job_after_another(run: Run):
    launch = run(jobs=4, machines=2)
    assert states(launch) == ["finished"] * 4
    assert sorted(len(machine.jobs) for machine in launch.machines) == [2, 2]


def test_no_more_machines_are_rented_than_there_are_jobs(run: Run):
    assert len(run(jobs=2, machines=8).machines) == 2


@pytest.mark.parametrize("workers", [8, 32])
def test_workers_of_one_launch_take_no_offer_twice(run: Run, workers: int, monkeypatch: pytest.MonkeyPatch):
    from launchers.testing import launch as module
    from launchers.testing.provider import FakeProvider, fake_offer

    class Market(FakeProvider):
        def __init__(self, clock: Any, faults: Any) -> None:
            super().__init__(clock, faults, [fake_offer(n, 0.3 + 0.001 * n) for n in range(workers)])

    monkeypatch.setitem(module.MARKETS, "machines", (Market,))
    launch = run(jobs=workers, machines=workers)
    assert states(launch) == ["finished"] * workers
    assert len({machine.offer.id for machine in launch.machines}) == len(launch.machines) == workers
    assert "is not available" not in "".join(launch.said)


def test_where_the_market_has_fewer_machines_than_workers_those_that_there_are_do_all_jobs(run: Run):
    launch = run(jobs=10, machines=10)
    assert states(launch) == ["finished"] * 10
    assert len(launch.machines) == 8


class Budgeted:
    """A source whose jobs should end from a moment on, though they report nothing."""

    def __init__(self, tasks: list[Task], clock: VirtualClock, end: float) -> None:
        self._tasks, self._clock, self._end = TaskList(tasks), clock, clock.now() + end

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tasks, name)

    def why_stop(self, task: Task) -> str | None:
        return "hydra.sweeper.max_hours is reached" if self._clock.now() >= self._end else None


def test_a_budget_that_is_spent_ends_jobs_at_the_next_look_also_those_that_report_nothing(tmp_path: Path):
    class OfASearch(FakeLaunch):
        def _scheduler(self, tasks: list[Task]) -> Scheduler:
            return Scheduler(Budgeted(tasks, self.clock, 200.0), 2, False, stops=self._stops)

    with VirtualClock() as clock:
        began = clock.now()
        launch = OfASearch(tmp_path / "launch", Schedule(jobs=2, machines=2, script=Script(steps=6000)), clock).run()
        assert launch.broken_promises() == []
        assert clock.now() - began < 400, "not at the end of the jobs, which take 12,000 s"
    for record in launch.records():
        assert (record.state, record.note) == (JobState.capped, "hydra.sweeper.max_hours is reached")
        assert record.results is Results.verified
        assert launch.local_step(record.spec) > 10


# --- machines that are no good, or are lost


@pytest.mark.parametrize("kind", ["taken", "never boots", "dearer"])
def test_an_offer_that_is_no_good_is_left_for_the_next_one(run: Run, kind: str):
    launch = run(calls=(CallFault("create", kind),))
    assert states(launch) == ["finished"]
    assert launch.machines[-1].offer.price == 0.32


def test_a_create_call_without_an_answer_is_looked_for_and_rents_nothing_twice(run: Run):
    launch = run(calls=(CallFault("create", "lost"),))
    assert states(launch) == ["finished"]
    assert len(launch.machines) == 1


def test_tries_come_to_an_end(run: Run):
    launch = run(calls=(CallFault("create", "taken", times=50),))
    assert states(launch) == ["failed"]
    assert launch.faults.counts["create"] == 4
    assert "after 4 tries" in str(launch.records()[0].note)


@pytest.mark.parametrize("loss", ["preempted", "host lost", "silent"])
def test_a_job_resumes_from_its_fetched_checkpoint_on_another_host(run: Run, loss: str):
    launch = run(timed=(TimedFault(loss, 16, 500),), script=Script(steps=20))
    assert states(launch) == ["finished"]
    (_, first), (_, second) = starts(launch)
    assert first == 0 < second
    assert [machine.offer.host for machine in launch.machines] == ["host-0", "host-1"]
    assert launch.records()[0].restarts == 1


def test_a_paused_machine_is_asked_for_again_and_its_disk_is_newer_than_what_was_fetched(run: Run):
    launch = run(market="pausing", timed=(TimedFault("preempted", 16),), script=Script(steps=20))
    assert states(launch) == ["finished"]
    assert len(launch.machines) == 1
    assert launch.ledger.machines()[0].instance == "7000r"


def test_an_account_that_is_empty_resumes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch):
    from launchers.testing.provider import FakeProvider

    monkeypatch.setattr(
        FakeProvider, "balance", lambda self: 100.0 if self.clock.now() < self.faults.began + 10 else 0.0
    )
    launch = run(market="pausing", timed=(TimedFault("preempted", 16),))
    assert any("the account is empty" in line for line in launch.said)


def test_restarts_are_limited(run: Run):
    launch = run(calls=(CallFault("job_status", "supervisor dies", times=50),), settings={"max_restarts": 2})
    (record,) = launch.records()
    assert record.state is JobState.lost
    assert "lost 3 machines, provider.max_restarts is 2" in str(record.note)


def test_a_setup_that_fails_on_two_machines_is_the_projects_fault(run: Run):
    launch = run(calls=(CallFault("prepare", "setup", times=50),), settings={"max_restarts": 9})
    assert states(launch) == ["failed"]
    assert len(launch.machines) == 2


def test_a_connection_that_breaks_everywhere_once_costs_nothing(run: Run):
    verbs = ("upload", "prepare", "start", "job_status", "manifest", "read", "follow")
    launch = run(calls=tuple(CallFault(verb, "unreachable") for verb in verbs))
    assert states(launch) == ["finished"]
    assert len(launch.machines) == 1


def test_a_key_that_is_refused_while_a_job_runs_is_no_verdict_about_the_job(run: Run):
    refused = (
        CallFault("status", "refused", first=3, times=50),
        CallFault("job_status", "unreachable", first=2, times=3),
    )
    launch = run(calls=refused)
    assert states(launch) == ["finished"]


def test_damaged_bytes_are_fetched_again(run: Run):
    assert states(run(calls=(CallFault("read", "damaged", times=2),))) == ["finished"]


# --- caps


def test_max_hours_ends_a_job_in_good_order(run: Run):
    launch = run(script=LONG, settings={"max_hours": 40 / 3600})
    (record,) = launch.records()
    assert (record.state, record.note, record.results) == (
        JobState.capped,
        "provider.max_hours is reached",
        Results.verified,
    )
    assert 40 <= record.seconds <= 50
    assert launch.local_step(record.spec) > 10


def test_max_cost_ends_a_job_in_good_order(run: Run):
    launch = run(script=LONG, settings={"max_cost": 0.005})
    (record,) = launch.records()
    assert (record.state, record.note) == (JobState.capped, "provider.max_cost is reached")
    assert 0.005 <= record.cost <= 0.006


def test_hours_of_all_machines_count(run: Run):
    launch = run(script=LONG, settings={"max_hours": 40 / 3600}, timed=(TimedFault("host lost", 25),))
    assert states(launch) == ["capped"]
    assert launch.records()[0].seconds <= 50


def test_max_total_cost_ends_all_jobs(run: Run):
    launch = run(jobs=3, machines=3, script=LONG, settings={"max_total_cost": 0.01})
    assert states(launch) == ["capped"] * 3
    assert sum(record.cost for record in launch.records()) <= 0.0105


def test_a_machine_that_is_out_of_reach_at_its_cap_is_destroyed_all_the_same(run: Run):
    launch = run(
        script=LONG,
        settings={"max_hours": 40 / 3600},
        timed=(TimedFault("silent", 30, 1000), TimedFault("provider down", 31, 5)),
    )
    (record,) = launch.records()
    assert record.state in (JobState.capped, JobState.lost)
    assert launch.living() == []


def test_a_job_that_reacts_to_nothing_is_killed_when_its_grace_is_over(run: Run):
    launch = run(script=Script(steps=100, hangs_at=3), settings={"max_hours": 40 / 3600})
    assert states(launch) == ["capped"]


def test_a_job_that_fails_says_so_and_is_not_started_again(run: Run):
    launch = run(script=Script(crashes_at=3))
    (record,) = launch.records()
    assert record.state is JobState.failed
    assert str(record.note).startswith("exit code 1")
    assert starts(launch) == [("0", 0)]


# --- the user's stops


def test_a_cancelled_job_saves_its_state_and_the_others_go_on(run: Run):
    launch = run(jobs=2, machines=2, script=Script(steps=30), timed=(TimedFault("cancel", 20),))
    assert states(launch) == ["cancelled", "finished"]
    assert launch.records()[0].results is Results.verified


@pytest.mark.parametrize(("signal", "code"), [("interrupt", 130), ("terminate", 143)])
def test_a_stop_without_a_terminal_saves_downloads_and_destroys(run: Run, signal: str, code: int):
    launch = run(jobs=3, machines=2, script=LONG, timed=(TimedFault(signal, 20),))
    assert states(launch) == ["cancelled"] * 3
    assert launch.exit_code == code
    assert [launch.local_step(job) > 0 for job in launch.jobs] == [True, True, False]
    assert launch.living() == []


def test_a_stop_while_packages_are_installed_ends_it_within_five_seconds(run: Run):
    launch = run(calls=(CallFault("prepare", "slow"),), timed=(TimedFault("interrupt", 10),))
    assert states(launch) == ["cancelled"]
    assert launch.machines[0].ended - launch.faults.began - 10 <= 5.0


def test_a_second_stop_destroys_at_once(run: Run):
    stops = (TimedFault("interrupt", 20), TimedFault("interrupt", 21))
    launch = run(script=Script(steps=100, hangs_at=3), timed=stops)
    assert launch.machines[0].ended - launch.faults.began - 21 <= 3.0


def test_stops_while_nothing_can_be_destroyed_name_the_machine(run: Run):
    stops = tuple(TimedFault("interrupt", after) for after in (20, 21, 22, 28, 40))
    launch = run(script=LONG, timed=stops, calls=(CallFault("destroy", "retry", times=50),))
    assert any("STILL BILLED: fake instance 7000" in line for line in launch.said)


def test_a_key_on_a_terminal_detaches_and_names_price_and_commands(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("launchers.lifecycle.stops.on_a_terminal", lambda: True)
    launch = run(script=LONG, timed=(TimedFault("interrupt", 20),))
    assert states(launch) == ["running"]
    assert any("1 job(s) keep running at $0.300 per hour" in line and "attach launch" in line for line in launch.said)


# --- trouble of this computer


def test_a_full_disk_leaves_the_results_on_the_machine_and_attach_brings_them_home(run: Run):
    launch = run(timed=(TimedFault("disk full", 15, 100),))
    assert any(line for line in launch.said if "STILL BILLED" in line and "attach launch" in line)
    launch.attach()
    (record,) = launch.records()
    assert (record.state, record.results) == (JobState.finished, Results.verified)
    assert launch.broken_promises_of_attach() == []


def test_a_ledger_that_refuses_to_be_written_names_the_machine_and_attach_goes_on(run: Run):
    launch = run(timed=(TimedFault("ledger refuses", 14, 100),))
    assert any("STILL BILLED" in line for line in launch.said)
    launch.attach()
    assert states(launch) == ["finished"]
    assert launch.broken_promises_of_attach() == []


def test_a_machine_that_is_lost_while_the_ledger_refuses_is_destroyed_all_the_same(run: Run):
    launch = run(timed=(TimedFault("silent", 14, 100), TimedFault("ledger refuses", 20, 40)))
    assert launch.living() == []


# --- without machines


def test_jobs_without_machines_share_an_application(run: Run):
    launch = run(market="serverless", jobs=4)
    assert states(launch) == ["finished"] * 4
    assert len(launch.machines) == 1
    assert launch.living() == []

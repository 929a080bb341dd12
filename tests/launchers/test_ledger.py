"""The ledger: which state follows which, what a job and a machine are charged, and ledgers of earlier versions."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from launchers.errors import MendInput
from launchers.job import Billing, Charging, JobSpec, JobState, Results
from launchers.ledger import IllegalTransition, Ledger, launchers_home
from launchers.ledger.transitions import BILLING_TRANSITIONS, JOB_TRANSITIONS
from tests.launchers.test_reserving import offer


def spec(number: int = 0) -> JobSpec:
    return JobSpec(
        f"l-{number}", number, "/tmp/x", "app", (), "0" * 64, {"remote_root": "/r", "detach": False}, {}, 1.0
    )


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite", durable=False)
    ledger.add_launch("l", "/", [spec()], 0.0)
    return ledger


def rent(ledger: Ledger, at: float = 0.0) -> str:
    record = ledger.intend_machine("l", None, [offer(1, price=3600.0)], (), "l-0", at)
    assert record is not None
    return record.label


INTO_JOB: dict[JobState, Callable[[Ledger], None]] = {
    JobState.waiting: lambda ledger: ledger.job_requeued("l-0"),
    JobState.running: lambda ledger: ledger.job_started("l-0", "m", 0, 1.0),
    **{s: lambda ledger, s=s: ledger.job_ended("l-0", s, None, 2.0) for s in JobState if s.ended},  # type: ignore[misc]
}
INTO_BILLING: dict[Billing, Callable[[Ledger, str], None]] = {
    Billing.active: lambda ledger, label: ledger.machine_created(label, "7"),
    Billing.unconfirmed: lambda ledger, label: ledger.machine_unconfirmed(label, "no answer"),
    Billing.gone: lambda ledger, label: ledger.machine_gone(label, 9.0),
}


@pytest.mark.parametrize("after", list(JobState))
@pytest.mark.parametrize("before", list(JobState))
def test_a_job_changes_its_state_only_as_the_table_says(ledger: Ledger, before: JobState, after: JobState):
    if before is not JobState.waiting:
        INTO_JOB[before](ledger)
    legal = after in JOB_TRANSITIONS[before]
    with contextlib.nullcontext() if legal else pytest.raises(IllegalTransition):
        INTO_JOB[after](ledger)
    assert ledger.job("l-0").state is (after if legal else before)


def test_a_job_that_has_ended_stays_as_it_ended():
    for state in JobState:
        assert bool(JOB_TRANSITIONS[state]) is not state.ended
        assert all(after in JOB_TRANSITIONS[state] for after in JobState) is not state.ended


@pytest.mark.parametrize("after", list(INTO_BILLING))
@pytest.mark.parametrize("before", list(Billing))
def test_a_machine_changes_its_billing_only_as_the_table_says(ledger: Ledger, before: Billing, after: Billing):
    label = rent(ledger)
    if before is not Billing.intended:
        INTO_BILLING[before](ledger, label)
    legal = after in BILLING_TRANSITIONS[before]
    with contextlib.nullcontext() if legal else pytest.raises(IllegalTransition):
        INTO_BILLING[after](ledger, label)
    assert ledger.machine(label).billing is (after if legal else before)


def test_a_machine_that_is_gone_is_never_billed_again():
    assert BILLING_TRANSITIONS[Billing.gone] == {Billing.gone}
    assert all(Billing.gone in after for after in BILLING_TRANSITIONS.values())


def test_seconds_and_cost_of_all_machines_of_a_job_add_up_once(ledger: Ledger):
    first = rent(ledger)
    ledger.machine_created(first, "7")
    ledger.charge(first, 10.0)
    ledger.charge(first, 10.0)
    ledger.charge(first, 4.0)  # a clock that was set back
    ledger.machine_gone(first, 12.0)
    ledger.machine_gone(first, 99.0)
    second = rent(ledger, at=20.0)
    ledger.machine_created(second, "8")
    ledger.machine_gone(second, 25.0)
    record = ledger.job("l-0")
    assert record.seconds == pytest.approx(17.0)
    assert record.cost == pytest.approx(17.0)
    assert ledger.machine(first).ended == 12.0


def test_a_machine_that_was_never_created_charges_nobody(ledger: Ledger):
    label = rent(ledger)
    ledger.machine_gone(label, 12.0)
    assert ledger.job("l-0").cost == 0.0


def test_a_jobs_own_meter_never_runs_backwards(ledger: Ledger):
    record = ledger.intend_machine("l", None, [offer(1, price=3600.0, charging=Charging.job)], (), "l-0", 0.0)
    assert record is not None
    ledger.machine_created(record.label, "7")
    for ran_s in (1.0, 0.5, 2.0):
        ledger.charge(record.label, 50.0, "l-0", ran_s)
    assert (ledger.job("l-0").cost, ledger.job("l-0").seconds) == (2.0, 2.0)
    ledger.machine_gone(record.label, 99.0)
    assert ledger.job("l-0").cost == 2.0


def test_restarts_count_lost_machines_alone(ledger: Ledger):
    ledger.job_started("l-0", "m", 5, 1.0)
    ledger.job_requeued("l-0")
    ledger.job_requeued("l-0", lost=False)
    record = ledger.job("l-0")
    assert (record.restarts, record.machine, record.log_base) == (1, None, 5)


def test_jobs_can_be_added_while_a_launch_runs(ledger: Ledger):
    ledger.add_jobs("l", [spec(1), spec(2)])
    assert [job.spec.number for job in ledger.jobs("l")] == [0, 1, 2]
    assert {job.state for job in ledger.jobs("l")} == {JobState.waiting}


def test_an_old_ledger_is_read_with_the_names_of_today(tmp_path: Path):
    path = tmp_path / "ledger.sqlite"
    new = Ledger(path)
    new.add_launch("l", "/", [spec()], 0.0)
    labels = [new.intend_machine("l", None, [offer(n)], (), "l-0", 0.0) for n in (1, 2)]
    new.close()
    with sqlite3.connect(path) as db:  # as version 3 wrote it
        old = json.loads(db.execute("SELECT spec FROM jobs").fetchone()[0])
        old["capsule"] = old.pop("snapshot")
        old["settings"] |= {"ship_keys": ["data.file"], "max_capsule_mb": 5.0}
        db.execute("UPDATE jobs SET spec = ?", (json.dumps(old),))
        db.execute("ALTER TABLE jobs RENAME COLUMN state TO outcome")
        for label, word in zip(labels, ("billed", "billing"), strict=True):
            assert label is not None
            offered = {**vars(label.offer), "per_job": word == "billed"}
            del offered["charging"]
            db.execute(
                "UPDATE machines SET billing = ?, offer = ? WHERE label = ?", (word, json.dumps(offered), label.label)
            )
        db.execute("DROP TABLE trials")
        db.execute("ALTER TABLE machines DROP COLUMN lost")
        db.execute("PRAGMA user_version = 3")
    ledger = Ledger(path)
    record = ledger.job("l-0")
    assert record.state is JobState.waiting
    assert record.spec.snapshot == "0" * 64
    assert record.spec.settings["local_paths"] == ["data.file"]
    assert record.spec.settings["max_snapshot_mb"] == 5.0
    assert [machine.billing for machine in ledger.machines()] == [Billing.active, Billing.unconfirmed]
    assert [machine.bills_idle for machine in ledger.machines()] == [False, True]


@pytest.mark.parametrize(
    ("version", "words"),
    [(0, "can't be read"), (3, "can't be read"), (999, "was written by a newer version of launchers")],
)
def test_a_database_of_something_else_or_of_a_later_version_is_one_sentence_and_stays(
    tmp_path: Path, version: int, words: str
):
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE jobs (name TEXT)")
        db.execute("INSERT INTO jobs VALUES ('somebody else''s')")
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(MendInput, match=words):
        Ledger(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM jobs").fetchall() == [("somebody else's",)]


def test_notes_hold_no_secret(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_API_KEY", "s3cr3t-0123456789abcdef")
    ledger.job_ended("l-0", JobState.failed, "refused s3cr3t-0123456789abcdef", 1.0)
    label = rent(ledger)
    ledger.machine_unconfirmed(label, "refused s3cr3t-0123456789abcdef")
    assert "s3cr3t" not in str(ledger.job("l-0").note) + str(ledger.machine(label).note)


def test_a_home_that_is_a_file_or_a_ledger_that_is_a_folder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LAUNCHERS_HOME", str(tmp_path / "file"))
    with pytest.raises(MendInput, match="set LAUNCHERS_HOME to another folder"):
        launchers_home()
    (tmp_path / "ledger.sqlite").mkdir(mode=0o700)
    with pytest.raises(MendInput, match="can't be opened"):
        Ledger(tmp_path / "ledger.sqlite")


def test_results_are_noted(ledger: Ledger):
    ledger.note_results("l-0", Results.verified)
    assert ledger.job("l-0").results is Results.verified

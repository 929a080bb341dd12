"""The bill in a job's folder and the facts in its environment, from a real ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from launchers.job import JobSpec, Offer
from launchers.ledger import Ledger
from launchers.lifecycle.receipt import (
    VARIABLE,
    receipt,
    rental_environment,
    try_to_write_bill,
    try_to_write_final_bills,
)

LAUNCH = "20260102-030405-abcd"


def offer(number: int) -> Offer:
    return Offer(
        provider="vast", id=str(number), host=f"host-{number}", gpu="RTX 4090", num_gpus=1, gpu_memory_gib=24.0, price=0.36,
        spot=True, disk_gb=40, download_mbps=500, upload_mbps=500, reliability=0.99, region="SE",
    )  # fmt: skip


def spec(tmp_path: Path, number: int) -> JobSpec:
    folder = tmp_path / str(number)
    return JobSpec(f"{LAUNCH}-{number}", number, str(folder), "app", (), "0" * 64, {"remote_root": "/r"}, {}, 1.0)


@pytest.fixture
def ledger(tmp_path: Path):
    opened = Ledger(tmp_path / "ledger.sqlite")
    opened.add_launch(LAUNCH, str(tmp_path), [spec(tmp_path, 0), spec(tmp_path, 1)], 0.0)
    yield opened
    opened.close()


def rent(ledger: Ledger, job: str, now: float, number: int) -> str:
    """A machine on the account of a job, which pays for it from `now` on."""
    machine = ledger.intend_machine(LAUNCH, None, [offer(number)], (), job, now)
    assert machine is not None
    ledger.machine_created(machine.label, f"i-{number}")
    ledger.job_started(job, machine.label, 0, now)
    return machine.label


def test_a_job_that_moved_has_both_machines_and_their_sum(ledger: Ledger, tmp_path: Path) -> None:
    job = f"{LAUNCH}-0"
    for number, (begin, end) in enumerate(((0.0, 1000.0), (1500.0, 3500.0))):
        label = rent(ledger, job, begin, number)
        ledger.machine_gone(label, end)
        ledger.job_requeued(job)
    bill = receipt(ledger.job(job), ledger.machine_users(LAUNCH), ledger.machines(LAUNCH), 9999.0)
    assert bill["cost"] == pytest.approx(0.36 * 3000 / 3600)
    assert [(m["created"], m["ended"]) for m in bill["machines"]] == [(0.0, 1000.0), (1500.0, 3500.0)]
    assert sum(m["cost"] for m in bill["machines"]) == pytest.approx(bill["cost"])
    assert {m["provider"] for m in bill["machines"]} == {"vast"}
    other = receipt(ledger.job(f"{LAUNCH}-1"), ledger.machine_users(LAUNCH), ledger.machines(LAUNCH), 9999.0)
    assert (other["cost"], other["price"], other["machines"]) == (0.0, None, [])


def test_a_machine_that_two_jobs_used_is_no_single_jobs_bill(ledger: Ledger) -> None:
    first, second = f"{LAUNCH}-0", f"{LAUNCH}-1"
    label = rent(ledger, first, 0.0, 0)
    ledger.charge(label, 600.0)
    ledger.set_deadline(label, second, 9999.0)
    ledger.job_started(second, label, 0, 600.0)
    ledger.charge(label, 900.0)
    for job, seconds in ((first, 600), (second, 300)):
        bill = receipt(ledger.job(job), ledger.machine_users(LAUNCH), ledger.machines(LAUNCH), 900.0)
        assert bill["cost"] == pytest.approx(0.36 * seconds / 3600)
        [machine] = bill["machines"]
        assert machine["cost"] is None
        assert machine["ended"] is None, "it is still billed"


def test_the_bill_is_written_where_results_are_and_again_when_final(ledger: Ledger, tmp_path: Path) -> None:
    job = f"{LAUNCH}-0"
    label = rent(ledger, job, 0.0, 0)
    path = tmp_path / "0" / "rental.json"
    try_to_write_bill(ledger, job, 10.0)
    assert not path.parent.exists(), "no folder is here yet"
    path.parent.mkdir()
    ledger.charge(label, 100.0)
    try_to_write_bill(ledger, job, 100.0)
    assert json.loads(path.read_text())["machines"][0]["ended"] is None
    ledger.machine_gone(label, 160.0)
    try_to_write_final_bills(ledger, ledger.machine(label), 200.0)
    final = json.loads(path.read_text())
    assert final["machines"][0]["ended"] == 160.0
    assert final["cost"] == pytest.approx(0.36 * 160 / 3600)
    assert [p.name for p in (tmp_path / "0").iterdir()] == ["rental.json"]


def test_a_job_is_told_what_it_runs_on(ledger: Ledger) -> None:
    job = f"{LAUNCH}-0"
    label = rent(ledger, job, 0.0, 0)
    ledger.charge(label, 100.0)
    facts = json.loads(rental_environment(ledger.job(job), ledger.machine(label))[VARIABLE])
    assert facts == {
        "provider": "vast", "price": 0.36, "gpu": "RTX 4090", "num_gpus": 1, "region": "SE", "spot": True, "restarts": 0,
        "cost": 0.01,
    }  # fmt: skip

"""Where Modal gives no answer, nothing is lost, nothing runs twice and nothing is left."""

from __future__ import annotations

import json

import pytest

from tests.launchers.conftest import steps_in
from tests.launchers.modal.desk import FINAL_LOSS, SLOW, ModalDesk

pytestmark = pytest.mark.slow


def test_bursts_of_unavailable_are_ridden_out(desk: ModalDesk):
    process = desk.start(*SLOW)
    desk.wait_for_step(5)
    for rpc in ("FunctionGetOutputs", "AppGetLogs", "FunctionCallGetInfo", "VolumeGetFile2"):
        desk.modal.faults.plant("rpc", rpc, "UNAVAILABLE", times=9)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert desk.loss() == pytest.approx(FINAL_LOSS)
    assert steps_in((desk.output() / "remote.log").read_text()) == list(range(1, 31))
    assert desk.modal.live_apps() == []


def test_a_client_that_gets_no_answer_leaves_and_the_job_runs_on(desk: ModalDesk):
    process = desk.start("steps=80", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    desk.wait_for_step(5)
    desk.modal.faults.plant("rpc", "^(Function|App|Volume|Environment)", "UNAVAILABLE", times=1_000_000)
    output, _ = process.communicate(timeout=120)
    assert f"`python -m launchers attach {desk.launch}` takes them up" in output
    assert "Traceback" not in output
    desk.modal.faults.planted.clear()
    done = desk.launchers("attach", desk.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.loss() == pytest.approx((7 * 0.5**80) ** 2)
    assert [len(attempts) for attempts in desk.modal.attempts()] == [1]


def test_a_job_whose_start_was_never_answered_can_be_cancelled(desk: ModalDesk):
    desk.modal.faults.plant("rpc", "FunctionMap", "lost", times=1_000_000)
    left = desk.run("steps=600", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    assert f"`python -m launchers attach {desk.launch}` takes them up" in left.stdout
    assert desk.modal.running() == 1
    assert desk.launch in desk.launchers("ps").stdout
    desk.modal.faults.planted.clear()
    done = desk.launchers("cancel", desk.launch)
    assert "cancelled" in done.stdout, done.stdout + done.stderr
    assert json.loads((desk.output() / "checkpoints/last.json").read_text())["step"] > 0
    desk.wait_for(lambda: not desk.modal.running(), what="the end of the container")
    assert desk.modal.live_apps() == []


def test_an_application_that_was_made_without_an_answer_is_ended(desk: ModalDesk):
    desk.modal.faults.plant("rpc", "FunctionCreate", "lost", times=4)
    done = desk.run("steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert desk.loss() == pytest.approx((7 * 0.5**2) ** 2)
    assert desk.modal.live_apps() == []
    assert len(desk.modal.requested("FunctionPrecreate")) == 2

"""Where Modal gives no answer, nothing is lost, nothing runs twice and nothing is left."""

from __future__ import annotations

import json

import pytest

from launchers.formats import short_id
from tests.launchers.conftest import steps_in
from tests.launchers.modal.user_env import FINAL_LOSS, SLOW, ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_bursts_of_unavailable_are_ridden_out(user_env: ModalUserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    for rpc in ("FunctionGetOutputs", "AppGetLogs", "FunctionCallGetInfo", "VolumeGetFile2"):
        user_env.modal.faults.plant("rpc", rpc, "UNAVAILABLE", times=9)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert steps_in((user_env.output() / "remote.log").read_text()) == list(range(1, 31))
    assert user_env.modal.live_apps() == []


def test_a_client_that_gets_no_answer_leaves_and_the_job_runs_on(user_env: ModalUserEnv):
    process = user_env.start("steps=80", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    user_env.wait_for_step(5)
    user_env.modal.faults.plant("rpc", "^(Function|App|Volume|Environment)", "UNAVAILABLE", times=1_000_000)
    output, _ = process.communicate(timeout=120)
    assert f"Reconnect with `python -m launchers attach {user_env.launch}`" in output
    assert "Traceback" not in output
    user_env.modal.faults.planted.clear()
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**80) ** 2)
    assert [len(attempts) for attempts in user_env.modal.attempts()] == [1]


def test_a_job_whose_start_was_not_answered_is_found_and_not_started_twice(user_env: ModalUserEnv):
    user_env.modal.faults.plant("rpc", "FunctionMap", "lost", times=1_000_000)
    done = user_env.run("steps=60", "seconds_per_step=0.1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**60) ** 2)
    assert [len(attempts) for attempts in user_env.modal.attempts()] == [1]
    assert user_env.modal.live_apps() == []


def test_a_job_whose_start_was_never_answered_can_be_cancelled(user_env: ModalUserEnv):
    for request in ("FunctionMap", "VolumeGetFile2"):  # nor can anybody see that it has begun
        user_env.modal.faults.plant("rpc", request, "lost", times=1_000_000)
    left = user_env.run("steps=600", "seconds_per_step=0.1", "hydra.launcher.timing.unreachable=1")
    assert f"Reconnect with `python -m launchers attach {user_env.launch}`" in left.stdout
    user_env.wait_for(lambda: user_env.modal.running() == 1, what="one container")
    assert short_id(user_env.launch) in user_env.launchers("ps").stdout
    user_env.modal.faults.planted.clear()
    done = user_env.launchers("cancel", user_env.launch)
    assert "cancelled" in done.stdout, done.stdout + done.stderr
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] > 0
    user_env.wait_for(lambda: not user_env.modal.running(), what="the end of the container")
    assert user_env.modal.live_apps() == []


def test_an_application_that_was_made_without_an_answer_is_ended(user_env: ModalUserEnv):
    user_env.modal.faults.plant("rpc", "FunctionCreate", "lost", times=4)
    done = user_env.run("steps=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**2) ** 2)
    assert user_env.modal.live_apps() == []
    assert len(user_env.modal.requested("FunctionPrecreate")) == 2

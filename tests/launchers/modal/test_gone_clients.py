"""A client that was killed or interrupted leaves jobs that run on, end within their caps, and can be taken up or ended."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time

import pytest

from tests.launchers.conftest import steps_in
from tests.launchers.modal.user_env import FINAL_LOSS, SLOW, ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_a_killed_client_leaves_the_job_running_and_attach_brings_it_home(user_env: ModalUserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    assert user_env.modal.running() == 1
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [len(attempts) for attempts in user_env.modal.attempts()] == [1]
    assert steps_in((user_env.output() / "remote.log").read_text()) == list(range(1, 31)), done.stdout
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.modal.live_apps() == []


def test_max_cost_binds_without_a_client(user_env: ModalUserEnv):
    process = user_env.start("steps=600", "seconds_per_step=0.1", "provider.max_cost=0.002")
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    user_env.wait_for(lambda: not user_env.modal.running(), what="the container's own end")
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 1
    assert "max_cost is reached" in done.stdout
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] > 5
    assert user_env.modal.live_apps() == []


def test_a_call_that_the_dead_client_did_not_write_down_is_found(user_env: ModalUserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    with sqlite3.connect(user_env.home / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE jobs SET handle = NULL")
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert user_env.modal.counts()["FunctionMap"] == 1


def test_results_of_an_application_that_has_ended_come_home(user_env: ModalUserEnv):
    done = user_env.run("steps=20", "seconds_per_step=0.1", "provider.detach=true")
    assert done.returncode == 0, done.stdout + done.stderr
    user_env.wait_for(lambda: not user_env.modal.live_apps(), what="the end of an application whose jobs have ended")
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**20) ** 2)
    assert user_env.modal.counts()["FunctionMap"] == 1


def test_a_result_that_modal_forgot_is_read_from_the_volume(user_env: ModalUserEnv):
    assert user_env.run("steps=10", "seconds_per_step=0.1", "provider.detach=true").returncode == 0
    user_env.wait_for(lambda: not user_env.modal.live_apps(), what="the end of the application")
    user_env.modal.expire()
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**10) ** 2)
    assert "finished" in done.stdout


def test_ctrl_c_once_leaves_the_job_and_twice_ends_it(user_env: ModalUserEnv):
    user_env.terminal = True
    process = user_env.start("steps=300", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert f"launchers attach {user_env.launch}" in output
    assert "Traceback" not in output
    assert user_env.modal.running() == 1
    attached = user_env.launch
    done = user_env.launchers("reap", "--yes")  # not an orphan
    assert done.returncode == 0, done.stderr
    assert user_env.modal.running() == 1
    done = user_env.launchers("attach", attached)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**300) ** 2)

    process = user_env.start("steps=300", "seconds_per_step=0.1", "hydra.sweep.dir=outputs/second")
    log = user_env.project / "outputs/second/0/remote.log"
    user_env.wait_for(lambda: log.exists() and "step 5 " in log.read_text())
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert json.loads((log.parent / "checkpoints/last.json").read_text())["step"] >= 5
    assert user_env.modal.live_apps() == []
    assert user_env.modal.running() == 0


def test_ps_logs_fetch_cost_tell_of_a_job_and_cancel_ends_it(user_env: ModalUserEnv):
    process = user_env.start("steps=600", "seconds_per_step=0.1", "provider.sync_every_s=2")
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    launch = user_env.launch
    doctor = user_env.launchers("doctor")
    assert doctor.returncode == 0, doctor.stdout  # one provider with a key is enough
    assert "1 running" in doctor.stdout
    (both,) = json.loads(user_env.launchers("ps", "--json").stdout)
    assert [job["state"] for job in both["jobs"]] == ["running"]
    assert [machine["provider"] for machine in both["machines"]] == ["modal"]
    assert "step 5 weight" in user_env.launchers("logs", launch).stdout
    done = user_env.launchers("fetch", launch)
    assert done.returncode == 0, done.stderr
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] >= 3
    done = user_env.launchers("cancel", launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verified" in done.stdout
    assert user_env.modal.live_apps() == []
    again = user_env.launchers("cancel", launch)
    assert "has ended already (cancelled)" in again.stderr
    spent = {row["what"]: row["$"] for row in json.loads(user_env.launchers("cost", "--json").stdout)}
    assert 0 < spent["all machines"] < 0.05
    assert spent["all machines"] == pytest.approx(spent[f"{launch}-0"])


def test_reap_ends_what_a_dead_client_left_and_the_job_can_be_taken_up_again(user_env: ModalUserEnv):
    process = user_env.start("steps=120", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    process.kill()
    process.wait()
    refused = user_env.launchers("reap")
    assert refused.returncode == 1
    assert "say --yes in a script" in refused.stderr
    assert user_env.launchers("reap", "--yes").returncode == 0
    assert user_env.modal.live_apps() == []
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**120) ** 2)
    resumed = [int(s) for s in re.findall(r"starts at step (\d+)", (user_env.output() / "remote.log").read_text())]
    assert len(resumed) >= 2
    assert resumed[1] >= 5
    assert user_env.modal.live_apps() == []

"""A job, a sweep and a search on an emulated Modal: logs are streamed, results downloaded, and no container is left."""

from __future__ import annotations

import json

import pytest

from tests.launchers.conftest import steps_in
from tests.launchers.modal.user_env import ModalUserEnv
from tests.launchers.search.pruned import assert_a_job_that_is_behind_is_pruned_and_comes_home

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_a_job_runs_in_a_container_and_leaves_no_application(user_env: ModalUserEnv):
    done = user_env.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**5) ** 2)
    assert steps_in((user_env.output() / "remote.log").read_text()) == [1, 2, 3, 4, 5]
    assert steps_in(done.stdout) == [1, 2, 3, 4, 5]
    assert user_env.modal.live_apps() == []
    assert "finished" in done.stdout


def test_a_sweep_runs_at_once_and_a_failure_stops_no_other(user_env: ModalUserEnv):
    done = user_env.run("-m", "steps=6,7,8", "seconds_per_step=0.1", "fail_at=7")
    assert done.returncode == 1, done.stdout + done.stderr
    assert user_env.loss(0) == pytest.approx((7 * 0.5**6) ** 2)
    assert user_env.loss(1) == pytest.approx((7 * 0.5**7) ** 2)
    assert "diverged at step 7" in (user_env.output(2) / "remote.log").read_text()
    assert all(f"[{number}] step 6" in done.stdout for number in range(3))
    assert user_env.modal.live_apps() == []
    assert user_env.modal.counts()["FunctionMap"] == 3
    starts = [attempts[0]["started"] for attempts in user_env.modal.attempts()]
    assert len(starts) == 3
    assert all(len(attempts) == 1 for attempts in user_env.modal.attempts())  # a job's own failure is not tried again
    assert len(user_env.modal.requested("FunctionCreate")) == 1  # one application for all


def test_a_job_that_is_behind_is_pruned(user_env: ModalUserEnv):
    assert_a_job_that_is_behind_is_pruned_and_comes_home(user_env, "modal")
    assert user_env.modal.live_apps() == []


def test_parallelism_caps_the_containers(user_env: ModalUserEnv):
    done = user_env.run("-m", "steps=2,3,4", "provider.parallelism=1")
    assert done.returncode == 0, done.stdout + done.stderr
    (request,) = user_env.modal.requested("FunctionCreate")
    assert request.function.autoscaler_settings.max_containers == 1 or request.function.concurrency_limit == 1
    first, second, third = sorted(a[0]["started"] for a in user_env.modal.attempts())
    assert first < second < third


def test_a_module_that_is_not_in_the_tree_fails_the_job_and_its_log_names_it(user_env: ModalUserEnv):
    done = user_env.run("steps=1", "provider.entry_point=nosuch")
    assert done.returncode == 1
    assert "No module named nosuch" in (user_env.output() / "remote.log").read_text()
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_gets_the_values(user_env: ModalUserEnv):
    done = user_env.run(
        "-m", "hydra/sweeper=search", "hydra.sweeper.metric=loss", "curve=choice('4090','7')",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    best = json.loads((user_env.project / "outputs/descent/sweep.json").read_text())["jobs"][0]
    assert best["loss"] == pytest.approx(min(user_env.loss(0), user_env.loss(1)))

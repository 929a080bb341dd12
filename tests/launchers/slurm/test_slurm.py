"""Jobs on a Slurm cluster: queued, followed, requeued, cancelled, and home."""

from __future__ import annotations

import json
import signal

import pytest

from tests.launchers.conftest import CANARIES, steps_in
from tests.launchers.search.pruned import assert_a_job_that_is_behind_is_pruned_and_comes_home
from tests.launchers.slurm.conftest import SlurmUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]
SLOW = ("steps=40", "seconds_per_step=0.1")
FINAL_LOSS = (7 * 0.5**40) ** 2


def test_a_job_goes_through_the_queue_and_its_results_come_home(user_env: SlurmUserEnv):
    done = user_env.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**5) ** 2)
    assert steps_in((user_env.output() / "remote.log").read_text()) == [1, 2, 3, 4, 5]
    assert not list((user_env.folder / "shared" / "jobs").iterdir()), "a shared disk does not end with the job"
    written = [path for path in (user_env.folder / "shared").rglob("*") if path.is_file()]
    assert written
    assert not [p for p in written if any(canary.encode() in p.read_bytes() for canary in CANARIES.values())]


def test_a_job_that_the_time_limit_ends_is_requeued_and_goes_on_from_its_checkpoint(user_env: SlurmUserEnv):
    process = user_env.start(*SLOW, "provider.partition=short", "provider.signal_delay_s=50")
    user_env.wait_for_step(5)
    number = user_env.numbers()[-1]
    # Slurm's own signal before the limit, which it sends at best half a minute late
    user_env.cluster.ask("scancel", "--signal=USR2", number)
    user_env.wait_for(lambda: user_env.cluster.restarts(number) == 1, what="a requeue")
    user_env.cluster.start_now(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    log = (user_env.output() / "remote.log").read_text()
    assert log.count("starts at step") >= 2
    assert set(steps_in(log)) == set(range(1, 41))
    assert user_env.loss() == pytest.approx(FINAL_LOSS)


def test_a_job_that_is_behind_is_pruned(user_env: SlurmUserEnv):
    assert_a_job_that_is_behind_is_pruned_and_comes_home(user_env, "slurm")


def test_a_queue_that_takes_the_node_back_loses_nothing(user_env: SlurmUserEnv):
    process = user_env.start(*SLOW, "provider.nodes=2", "+provider.additional_parameters={exclusive: user}")
    user_env.wait_for_step(5)
    number = user_env.numbers()[-1]
    user_env.cluster.ask("sbatch", "-p", "urgent", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    user_env.wait_for(lambda: user_env.cluster.restarts(number) == 1, what="a preemption")
    user_env.cluster.start_now(number)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert user_env.loss() == pytest.approx(FINAL_LOSS)


@pytest.mark.parametrize("word", ["cancel", "scancel"])
def test_cancelled_means_cancelled(user_env: SlurmUserEnv, word: str):
    process = user_env.start("steps=600", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    if word == "scancel":
        user_env.cluster.ask("scancel", user_env.numbers()[-1])
    else:
        done = user_env.launchers("cancel", user_env.launch)
        assert done.returncode == 0, done.stdout + done.stderr
    output, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] >= 5
    assert "cancelled" in user_env.launchers("ps", "--all").stdout
    assert not set(user_env.cluster.queue().values()) & {"PENDING", "RUNNING"}


def test_a_job_that_still_waits_is_cancelled_too(user_env: SlurmUserEnv):
    user_env.cluster.ask("sbatch", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 60")
    user_env.wait_for(lambda: "RUNNING" in user_env.cluster.queue().values(), what="full nodes")
    process = user_env.start(*SLOW)
    user_env.wait_for(lambda: "PENDING" in user_env.cluster.queue().values(), what="a waiting job")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "Traceback" not in output
    assert "PENDING" not in user_env.cluster.queue().values()


def test_a_client_that_dies_finds_its_job_again(user_env: SlurmUserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    process.kill()
    done = user_env.launchers("attach", user_env.launch)
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert (user_env.output() / "remote.log").read_text().count("starts at step") == 1


def test_the_jobs_of_a_sweep_wait_in_the_queue_together(user_env: SlurmUserEnv):
    done = user_env.run("-m", "steps=5", "curve.rate=0.1,0.2,0.5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [user_env.loss(number) for number in range(3)] == pytest.approx(
        [(7 * (1 - r) ** 5) ** 2 for r in (0.1, 0.2, 0.5)]
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("provider.partition=nowhere", "invalid partition specified: nowhere"),
        ("provider.gres=disk:1", "Invalid generic resource"),
        ("provider.nodes=9", "(More processors|Node count|node configuration)"),
        ("provider.login=nobody@localhost.invalid", "ssh nobody@localhost.invalid failed"),
        ("provider.remote_root=/proc/here", "all nodes share"),
    ],
)
def test_what_a_cluster_refuses_is_one_sentence(user_env: SlurmUserEnv, setting: str, words: str):
    done = user_env.run("steps=5", setting, "hydra.launcher.timing.retry_total=0")
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    import re

    assert re.search(words, done.stdout + done.stderr), done.stdout + done.stderr
    assert user_env.numbers() == [] or not set(user_env.cluster.queue().values()) & {"PENDING", "RUNNING"}

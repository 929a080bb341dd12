"""A job whose container is taken away, dies or runs out of time goes on in the next one, or says why not."""

from __future__ import annotations

import json
import re

import pytest

from tests.launchers.modal.user_env import FINAL_LOSS, SLOW, ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


@pytest.mark.parametrize("loss_of_container", ["preempt", "crash"])
def test_a_job_goes_on_in_a_new_container_with_the_same_result(user_env: ModalUserEnv, loss_of_container: str):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(12)
    getattr(user_env.modal, loss_of_container)()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    resumed = [int(s) for s in re.findall(r"starts at step (\d+)", (user_env.output() / "remote.log").read_text())]
    assert resumed[0] == 0
    # Asked to stop, it saves all; killed, it goes on from the last commit.
    assert resumed[1] >= (12 if loss_of_container == "preempt" else 5)
    assert [len(attempts) for attempts in user_env.modal.attempts()] == [2]
    assert user_env.modal.live_apps() == []


def test_a_job_longer_than_an_attempt_goes_on_in_the_next(user_env: ModalUserEnv):
    # Half of so short an attempt is kept for its end.
    done = user_env.run("steps=50", "seconds_per_step=0.1", "provider.timeout_s=6", "provider.max_hours=0.01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**50) ** 2)
    assert len(user_env.modal.attempts()[0]) >= 2


def test_a_job_that_modal_times_out_keeps_its_last_commit(user_env: ModalUserEnv):
    source = user_env.project / "descent/__main__.py"
    # A job that ignores every request to stop: only Modal's own end is left.
    source.write_text(
        source.read_text().replace("import json\n", "import json, signal\nsignal.signal(15, lambda *_: 0)\n")
    )
    done = user_env.run("steps=200", "seconds_per_step=0.1", "provider.timeout_s=3", "provider.max_restarts=0",
                    "provider.max_hours=0.0008", "provider.grace_s=60")  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "max_hours" in done.stdout
    assert json.loads((user_env.output() / "checkpoints/last.json").read_text())["step"] > 3
    assert user_env.modal.live_apps() == []


def test_a_container_that_dies_every_time_fails_with_a_hint(user_env: ModalUserEnv):
    process = user_env.start("steps=200", "seconds_per_step=0.1")
    for number in (1, 2, 3):
        lives = f"container {number}"
        user_env.wait_for(
            lambda n=number: [len(a) for a in user_env.modal.attempts()] == [n] and user_env.modal.working() == 1,
            what=lives,
        )
        user_env.modal.crash()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "most likely for lack of memory" in output
    assert "Traceback" not in output
    assert user_env.modal.live_apps() == []


def test_every_attempt_of_a_job_gets_the_variables_of_the_settings_with_its_id(user_env: ModalUserEnv):
    source = user_env.project / "descent/__main__.py"
    added = "import os\nprint('run', os.environ.get('RUN_ID'), flush=True)\nimport json\n"
    source.write_text(source.read_text().replace("import json\n", added))
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    user_env.modal.preempt()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    runs = re.findall(r"^run (?!None)(\S+)$", output, re.MULTILINE)
    assert len(runs) == 2
    assert set(runs) == {f"{user_env.launch}-0"}

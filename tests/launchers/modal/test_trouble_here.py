"""At Modal, too: trouble of this computer or a refused request costs a job neither its container nor its results."""

from __future__ import annotations

import pytest

from tests.launchers.modal.user_env import FINAL_LOSS, SLOW, ModalUserEnv
from tests.launchers.test_trouble_here import BIG, on_a_small_disk, write_much

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]


def test_a_full_disk_leaves_the_results_at_modal_until_attach_has_fetched_them(user_env: ModalUserEnv):
    write_much(user_env)
    done = on_a_small_disk(user_env, "outputs", "3m", "steps=3")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "No space left on device" in said
    assert "NOT DOWNLOADED" in said
    assert f"python -m launchers attach {user_env.launch}" in said
    assert "Traceback" not in said
    attached = user_env.launchers("attach", user_env.launch)
    assert attached.returncode == 0, attached.stdout + attached.stderr
    assert (user_env.output() / "large.bin").stat().st_size == BIG
    assert user_env.modal.live_apps() == []


def test_a_refused_token_never_ends_a_running_job(user_env: ModalUserEnv):
    process = user_env.start(*SLOW)
    user_env.wait_for_step(5)
    user_env.modal.faults.plant("rpc", "FunctionGetOutputs", "UNAUTHENTICATED", times=3)
    output, _ = process.communicate(timeout=120)
    assert user_env.modal.faults.hit, "nothing was asked"
    assert process.returncode == 0, output
    assert user_env.loss() == pytest.approx(FINAL_LOSS)
    assert [len(attempts) for attempts in user_env.modal.attempts()] == [1]
    assert user_env.modal.live_apps() == []

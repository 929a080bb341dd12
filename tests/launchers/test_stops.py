"""Ctrl-C on a terminal: once detaches and says what runs on, twice saves, downloads and destroys."""

from __future__ import annotations

import signal
import time

import pytest

from tests.launchers.conftest import UserEnv

pytestmark = pytest.mark.slow


def test_one_ctrl_c_on_a_terminal_detaches_and_says_what_runs_on(user_env: UserEnv):
    user_env.terminal = True
    process = user_env.start("-m", "steps=300,2", "seconds_per_step=0.1", "hydra.launcher.timing.second_interrupt=1")
    user_env.wait_for_step(5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "press Ctrl-C again within 1 s" in output
    assert "1 job(s) keep running at $0.360 per hour, for at most" in output
    assert f"python -m launchers attach {user_env.launch}" in output
    assert f"python -m launchers cancel {user_env.launch}" in output
    assert "cancelled: the job had not started" in output
    assert "Traceback" not in output
    assert len(user_env.market.billed()) == 1
    assert user_env.launchers("reap", "--yes", "--api-url", user_env.market.url).returncode == 0
    assert len(user_env.market.billed()) == 1  # not an orphan within its hours
    attached = user_env.launchers("attach", user_env.launch)
    assert "finished" in attached.stdout, attached.stdout + attached.stderr
    assert user_env.loss() == pytest.approx((7 * 0.5**300) ** 2)
    assert user_env.market.billed() == []


def test_two_on_a_terminal_save_download_and_destroy(user_env: UserEnv):
    user_env.terminal = True
    process = user_env.start("steps=3000", "seconds_per_step=0.1")
    user_env.wait_for_step(5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert user_env.synced_step() >= 5
    assert user_env.market.billed() == []

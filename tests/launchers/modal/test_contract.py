"""The contract of all providers, on the emulated Modal: an application from its offers until it is gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.launchers.modal.user_env import ModalUserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(6)]

KEEPS = """
import sys, time
from pathlib import Path
from launchers.capacity.market import need_of
from launchers.ledger import launchers_home
from launchers.registry import descriptors
from launchers.snapshot import pack
from launchers.testing.contract import assert_rents_and_destroys
from launchers.testing.settings import fake_settings

found = descriptors()["modal"]
shared = vars(fake_settings(name="modal", gpu="A100", max_price=10.0, image="debian-slim", python=sys.executable))
settings = found.settings(**shared, volume="outputs", cache_volume="cache", startup_timeout_s=60)
snapshot, _ = pack(Path.cwd(), launchers_home(), 50e6, (), (), {}, ())
rest = lambda: time.sleep(0.2)
assert_rents_and_destroys(found.open(None), need_of(settings), settings, "", rest, "launchers-abc123-contract-0", snapshot)
"""
"""In a process of its own: Modal's client reads its settings when it is imported."""


def test_an_emulated_modal_keeps_the_contract(user_env: ModalUserEnv):
    done = subprocess.run(
        [sys.executable, "-c", KEEPS], cwd=user_env.project, env=user_env.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert user_env.modal.counts()["AppStop"] >= 1

"""Sweeps on rented machines: against the emulated market, through the command line."""

from __future__ import annotations

import csv
import os
import signal
import time

import pytest

from tests.launchers.conftest import UserEnv

pytestmark = [pytest.mark.slow, pytest.mark.turns(3)]
SEARCH = ["-m", "hydra/sweeper=search", "hydra.sweeper.metric=loss", "provider.machines=2"]


def table(user_env: UserEnv) -> list[dict[str, str]]:
    with (user_env.project / "outputs/descent/sweep.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_search_asks_for_each_job_and_rents_no_machine_anew(user_env: UserEnv):
    done = user_env.run(
        *SEARCH, "hydra.sweeper.sampler=tpe", "hydra.sweeper.n_trials=5", "curve.rate=interval(0.1,0.9)", "steps=3"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = table(user_env)
    assert len({row["curve.rate"] for row in rows}) == 5
    assert all(row["state"] == "finished" and float(row["cost_usd"]) > 0 for row in rows)
    assert len(user_env.market.history) == 2
    assert user_env.market.billed() == []


def test_a_pruned_job_frees_its_machine_for_the_next(user_env: UserEnv):
    slow = ["report_every=2", "steps=20", "seconds_per_step=0.4", "hydra.sweeper.pruner=halving"]
    done = user_env.run(
        *SEARCH, *slow, "hydra.sweeper.reduction_factor=2", "curve.rate=0.5,0.4,0.05,0.02", "provider.machines=1"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    states = {row["curve.rate"]: row["state"] for row in table(user_env)}
    assert states["0.5"] == "finished"
    assert states["0.02"] == "pruned"
    assert len(user_env.market.history) == 1
    assert user_env.market.billed() == []


def test_a_killed_client_loses_nothing_and_pays_nothing_twice(user_env: UserEnv):
    command = [*SEARCH, "curve.rate=0.1,0.3,0.5,0.7", "steps=12", "seconds_per_step=0.3"]
    process = user_env.start(*command)
    deadline = time.monotonic() + 60
    # two jobs have ended, and another is on its machine
    while not (user_env.output(2) / "remote.log").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = user_env.run(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reconnecting to it" in done.stdout + done.stderr
    rows = table(user_env)
    assert sorted(row["job"] for row in rows) == list("0123")
    assert {row["state"] for row in rows} == {"finished"}
    assert user_env.market.billed() == []

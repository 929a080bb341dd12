"""The same search with pruning, at any provider: what is expected of each of them."""

from __future__ import annotations

import csv

from tests.launchers.conftest import UserEnv

ONE_AT_A_TIME = {"modal": "provider.parallelism=1"}


def assert_a_job_that_is_behind_is_pruned_and_comes_home(user_env: UserEnv, provider: str) -> None:
    """Two jobs, one after the other: the second is asked to save and end at its first rung, where it is behind the first."""
    done = user_env.run(
        "-m", "hydra/sweeper=search", "hydra.sweeper.metric=loss", "hydra.sweeper.pruner=halving",
        "hydra.sweeper.reduction_factor=2", "report_every=5", "steps=60", "seconds_per_step=0.3", "curve.rate=0.5,0.02",
        ONE_AT_A_TIME.get(provider, "provider.machines=1"), timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with (user_env.project / "outputs/descent/sweep.csv").open() as file:
        rows = {row["curve.rate"]: row for row in csv.DictReader(file)}
    assert rows["0.5"]["state"] == "finished"
    assert rows["0.02"]["state"] == "pruned"
    assert float(rows["0.02"]["loss"]) > float(rows["0.5"]["loss"])
    log = (user_env.output(1) / "remote.log").read_text()
    assert "step 5 " in log
    assert "step 60 " not in log
    assert (user_env.output(1) / "checkpoints" / "last.json").is_file()

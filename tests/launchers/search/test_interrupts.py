"""Ctrl-C at any line of ours while a sweep runs: exit code 130, no traceback, and the same command goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.conftest import environment

STRIKES = os.environ.get("STRIKES", "8")
SEARCH = ["hydra/sweeper=search", "hydra.sweeper.metric=loss"]
SWEEPS = {
    "grid": SEARCH,
    "search": [*SEARCH, "hydra.sweeper.sampler=random", "hydra.sweeper.n_trials=2"],
    "Hydra's own sweeper": ["hydra/sweeper=basic"],
}


@pytest.mark.slow
@pytest.mark.turns(3)
@pytest.mark.parametrize("sweep", SWEEPS)
def test_ctrl_c_at_any_line_of_ours_ends_with_130_and_the_same_command_goes_on(
    project: Path, tmp_path: Path, sweep: str
):
    script = str(Path(__file__).with_name("struck.py"))
    done = subprocess.run(
        [sys.executable, script, STRIKES, *SWEEPS[sweep]],
        cwd=project, env=environment(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

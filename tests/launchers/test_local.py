"""`hydra/launcher=local`: every job of a sweep runs where its own config says, and one failure stops no other."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launchers.command import RETURN_VALUE
from tests.launchers.conftest import environment


def losses(project: Path) -> dict[str, float]:
    return {f.parent.name: json.loads(f.read_text())["loss"] for f in project.glob("outputs/descent/*/metrics.json")}


def test_a_single_command_runs_one_job_in_folder_0(descent, project):
    done = descent()
    assert done.returncode == 0, done.stderr
    assert losses(project) == {"0": pytest.approx((7 * 0.5**5) ** 2)}


def test_the_first_line_of_a_job_says_what_it_is_how_long_it_takes_and_where_it_writes(descent, project):
    (project / "descent" / "expected.py").write_text(
        "def hours(config):\n    return config.steps / 60 if config.steps < 9 else None\n"
    )
    done = descent("-m", "steps=3,9", "hydra.launcher.forecast=descent.expected:hours")
    assert done.returncode == 0, done.stderr
    assert "job 0: steps=3, about 3 min; results go to outputs/descent/0" in done.stdout
    assert "job 1: steps=9; results go to outputs/descent/1" in done.stdout
    refused = descent("hydra.launcher.forecast=os:getcwd")
    assert refused.returncode != 0
    assert "hydra.launcher.forecast names 'os:getcwd', which is no function of descent" in refused.stderr


def test_numeric_options_of_a_group_need_no_quotes_in_a_sweep(descent, project):
    done = descent("-m", "curve='4090','7'", "steps=3")
    assert done.returncode == 0, done.stderr
    assert losses(project) == {"0": pytest.approx((4090 * 0.75**3) ** 2), "1": pytest.approx((7 * 0.5**3) ** 2)}


def test_a_search_over_numeric_options_of_a_group_composes(descent, project, tmp_path):
    search = [
        "hydra/sweeper=search",
        "hydra.sweeper.sampler=tpe",
        "hydra.sweeper.n_trials=2",
        "curve=choice('4090','7')",
    ]
    done = descent("-m", *search, LAUNCHERS_HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert losses(project)
    assert str(min(losses(project).values()))[:8] in (project / "outputs/descent/sweep.csv").read_text()


def test_a_failed_job_stops_no_other_and_the_command_fails(descent, project):
    done = descent("-m", "fail_at=null,2,null", "curve='7'")
    assert done.returncode == 1
    assert "diverged at step 2" in done.stderr
    assert set(losses(project)) == {"0", "2"}


def test_a_job_that_exits_is_a_failed_job(descent, project):
    source = project / "descent/__main__.py"
    source.write_text(source.read_text().replace("raise ValueError(", "raise SystemExit("))
    done = descent("-m", "fail_at=0,null")
    assert done.returncode == 1
    assert "sys.exit" in done.stderr
    assert set(losses(project)) == {"1"}


def test_each_job_goes_to_the_launcher_it_names_itself(descent, project):
    """Pins the private `Plugins._instantiate`: the third job runs with Hydra's own launcher, in the same sweep."""
    done = descent("-m", "provider=local,foreign", "curve='7'")
    assert done.returncode == 0, done.stderr
    assert set(losses(project)) == {"0", "1"}
    assert done.stdout.count("Launching 1 jobs locally") == 1  # printed by the basic launcher alone


def test_a_job_that_does_not_compose_stops_the_sweep_before_anything_starts(descent, project):
    done = descent("-m", "curve='7',nosuch")
    assert done.returncode == 1
    assert "nosuch" in done.stderr
    assert not losses(project)


def test_the_return_value_is_written_where_a_supervisor_asks_for_it(descent, tmp_path):
    done = descent("hydra.mode=RUN", "steps=1", RETURN_VALUE, LAUNCHERS_RETURN_VALUE=str(tmp_path / "value.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "value.json").read_text()) == {"value": pytest.approx(3.5**2)}


def test_sigterm_ends_the_command_with_143_and_the_job_continues_when_run_again(descent, project):
    slow = ["steps=200", "seconds_per_step=0.05"]
    process = subprocess.Popen([sys.executable, "-m", "descent", *slow], cwd=project, env=environment())
    last = project / "outputs/descent/0/checkpoints/last.json"
    deadline = time.monotonic() + 60
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    step = json.loads(last.read_text())["step"]
    again = descent("steps=200")
    assert f"starts at step {step}" in again.stdout
    assert losses(project)


@pytest.mark.parametrize(
    ("leaves", "code"), [("SystemExit(130)", 130), ("SystemExit(143)", 143), ("KeyboardInterrupt", 130)]
)
def test_a_job_that_was_stopped_ends_the_sweep_and_the_printed_command_continues_it(leaves, code, descent, project):
    source = project / "descent/__main__.py"
    whole = source.read_text()
    source.write_text(whole.replace('raise ValueError(f"diverged at step {cfg.fail_at}")', f"raise {leaves}"))
    done = descent("-m", "fail_at=null,2,null", "curve='7'", "+note='two words'", "hydra.sweep.dir=outputs/here")
    assert done.returncode == code, done.stderr
    assert "Jobs: done 0; interrupted 1; not started 2." in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (project / "outputs/here/2").exists()
    printed = next(
        line for line in (done.stderr + done.stdout).splitlines() if line.startswith("  python -m descent -m ")
    )
    source.write_text(whole.replace('state["step"] == cfg.fail_at', "False"))
    again = descent(*shlex.split(printed)[3:])
    assert again.returncode == 0, again.stderr
    assert "starts at step 2" in again.stdout
    assert {f.parent.name for f in project.glob("outputs/here/*/metrics.json")} == {"0", "1", "2"}


def test_a_failed_job_is_named_before_the_next_one_starts(descent):
    done = descent("-m", "fail_at=0,null")
    lines = [line for line in done.stdout.splitlines() if "job 0 failed" in line or "starts at step" in line]
    assert ["failed" in line for line in lines] == [False, True, False]


def test_two_jobs_never_share_a_folder(descent, project):
    done = descent("-m", "steps=1,2", "hydra.sweep.subdir=same")
    assert done.returncode == 1
    assert "hydra.sweep.subdir" in done.stderr
    assert not (project / "outputs/descent/same").exists()

"""Whole sweeps of the example app, through its command line, on this machine."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launchers.conftest import environment

SEARCH = ["-m", "hydra/sweeper=search", "hydra.sweep.dir=out", "hydra.sweeper.metric=loss"]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sweep(descent: Run, tmp_path: Path) -> Run:
    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return descent(*SEARCH, *arguments, LAUNCHERS_HOME=str(tmp_path / "home"), **extra)

    return run


def table(project: Path) -> list[dict[str, str]]:
    with (project / "out" / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


def fresh_starts(project: Path) -> int:
    """How many jobs have begun at step 0, by what they printed."""
    return sum(path.read_text().count("starts at step 0") for path in project.glob("out/*/console.log"))


def test_a_grid_ends_in_a_table_best_first(sweep, project):
    done = sweep("curve.rate=0.1,0.9,0.5", "steps=2,4")
    assert done.returncode == 0, done.stderr
    rows = table(project)
    assert [(row["curve.rate"], row["steps"]) for row in rows[:2]] == [("0.9", "4"), ("0.9", "2")]
    assert [float(row["loss"]) for row in rows] == sorted(float(row["loss"]) for row in rows)
    assert "6 jobs by loss (minimize), best first" in done.stdout
    assert "python -m descent curve.rate=0.9 steps=4" in done.stdout


def test_the_same_command_again_runs_only_what_is_missing(sweep, project):
    sweep("curve.rate=0.1,0.9")
    assert fresh_starts(project) == 2
    sweep("curve.rate=0.1,0.9,0.5")
    assert fresh_starts(project) == 3
    assert {row["job"]: row["curve.rate"] for row in table(project)} == {"0": "0.1", "1": "0.9", "2": "0.5"}


def test_a_folder_belongs_to_its_parameters_and_not_to_its_number(sweep, project):
    sweep("curve.rate=0.1,0.9")
    done = sweep("curve.rate=0.5,0.9,0.1")
    assert done.returncode == 0, done.stderr
    assert {row["job"]: row["curve.rate"] for row in table(project)} == {"0": "0.1", "1": "0.9", "2": "0.5"}


def test_folders_of_an_unknown_origin_are_left_alone(sweep, project):
    checkpoint = project / "out" / "0" / "checkpoints" / "last.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text('{"step": 5, "weight": 0.0}')
    sweep("curve.rate=0.1,0.9")
    assert fresh_starts(project) == 2
    assert {row["job"] for row in table(project)} == {"1", "2"}


def test_a_search_goes_on_with_new_points_and_counts_those_it_had(sweep, project):
    search = ["hydra.sweeper.sampler=tpe", "curve.rate=interval(0.1,0.9)", "hydra.sweeper.sampler_seed=3"]
    sweep(*search, "hydra.sweeper.n_trials=3")
    sweep(*search, "hydra.sweeper.n_trials=5")
    assert fresh_starts(project) == 5
    rows = table(project)
    assert len({row["curve.rate"] for row in rows}) == 5
    for row in rows:
        assert float(row["loss"]) == pytest.approx((7 * (1 - float(row["curve.rate"])) ** 5) ** 2, rel=1e-3)


def test_a_search_ends_when_its_space_is_exhausted(sweep, project):
    done = sweep("hydra.sweeper.sampler=random", "curve.rate=choice(0.1,0.5)", "hydra.sweeper.n_trials=100")
    assert done.returncode == 0, done.stderr
    assert len(table(project)) == 2


def test_what_is_behind_is_pruned_and_keeps_its_last_value(sweep, project):
    slow = [
        "report_every=2",
        "steps=12",
        "seconds_per_step=0.15",
        "hydra.sweeper.pruner=halving",
        "hydra.sweeper.reduction_factor=2",
    ]
    done = sweep("curve.rate=0.5,0.05", *slow)
    assert done.returncode == 0, done.stderr
    rows = table(project)
    assert [row["state"] for row in rows] == ["finished", "pruned"]
    assert rows[1]["validations"] == "1"
    reported = [
        json.loads(line) for line in (project / "out" / rows[1]["job"] / "reports.jsonl").read_text().splitlines()
    ]
    assert float(rows[1]["loss"]) == reported[0]["value"]


def test_survivors_of_asha_are_paused_and_resumed_from_their_checkpoint(sweep, project):
    slow = [
        "report_every=2",
        "steps=8",
        "seconds_per_step=0.15",
        "hydra.sweeper.pruner=asha",
        "hydra.sweeper.reduction_factor=2",
    ]
    done = sweep("curve.rate=0.3,0.05", *slow)
    assert done.returncode == 0, done.stderr
    assert "job 0 is paused after 1 validation(s)" in done.stdout
    assert "job 0 resumes: it is among the best of its rung; up to" in done.stdout
    assert fresh_starts(project) == 2
    assert [row["state"] for row in table(project)] == ["finished", "pruned"]


def test_several_seeds_per_point_end_in_mean_and_deviation(sweep, project):
    done = sweep("curve.rate=0.1,0.9", "hydra.sweeper.seeds=3")
    assert done.returncode == 0, done.stderr
    assert [(row["curve.rate"], row["seed"]) for row in table(project)[:3]] == [
        ("0.9", "0"),
        ("0.9", "1"),
        ("0.9", "2"),
    ]
    assert "Points by the mean loss of 3 seeds" in done.stdout


def test_max_jobs_ends_a_sweep_which_goes_on_when_it_is_raised(sweep, project):
    done = sweep("curve.rate=0.1,0.5,0.9", "hydra.sweeper.max_jobs=2")
    assert done.returncode == 0, done.stderr
    assert "hydra.sweeper.max_jobs is reached" in done.stdout
    assert [row["state"] for row in table(project)].count("finished") == 2
    sweep("curve.rate=0.1,0.5,0.9", "hydra.sweeper.max_jobs=3")
    assert [row["state"] for row in table(project)].count("finished") == 3


def test_max_hours_asks_what_runs_to_save_and_end(sweep, project):
    done = sweep("curve.rate=0.1,0.5", "steps=400", "seconds_per_step=0.1", "hydra.sweeper.max_hours=0.002")
    assert done.returncode == 0, done.stderr
    states = {row["job"]: row["state"] for row in table(project)}
    assert states == {"0": "stopped", "1": "waiting"}
    assert (project / "out/0/checkpoints/last.json").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["curve.rate=range(1,1)"], "nothing to sweep"),
        (["curve.rat=0.1,0.2"], "curve.rat"),
        (["hydra.sweeper.sampler=tpe", "curve.rat=interval(0.1,0.2)"], "curve.rat"),
        (["hydra.sweeper.sampler=tpe"], "at least one parameter"),
        (
            ["hydra.sweeper.sampler=tpe", "hydra.sweeper.baseline=true", "curve.rate=interval(0.1,0.2)"],
            "does not hold them all",
        ),
        (["curve.rate=interval(0.1,0.2)"], "list of values"),
        (["curve.rate=0.1,0.2", "seed=1,2", "hydra.sweeper.seeds=2"], "leave one of them out"),
        (["hydra.sweeper.sampler=best", "seed=1,2"], "hydra.sweeper.sampler=best"),
        (["hydra.sweeper.sampler=random", "curve.rate=choice(0.1,0.2)", "provider=local,foreign"], "one provider"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_leaves_nothing(arguments, words, sweep, project):
    done = sweep(*arguments)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (project / "out").exists()


def test_another_sweep_in_the_same_folder_is_refused_and_harms_nothing(sweep, project):
    sweep("curve.rate=0.1,0.9")
    before = (project / "out" / "sweep.csv").read_text()
    for other in (["steps=3,4"], ["hydra.sweeper.sampler=tpe", "steps=int(interval(1,9))"]):
        done = sweep(*other)
        assert done.returncode == 1
        assert "holds another sweep" in done.stderr
    assert (project / "out" / "sweep.csv").read_text() == before


def test_changed_code_asks_before_results_are_mixed(sweep, project):
    sweep("curve.rate=0.1,0.9")
    source = project / "descent" / "__main__.py"
    source.write_text(source.read_text() + "\n# changed\n")
    done = sweep("curve.rate=0.1,0.9,0.5")
    assert done.returncode == 1
    assert "The code has changed since 2 job(s)" in done.stderr
    sweep("curve.rate=0.1,0.9,0.5", "hydra.sweeper.accept_changes=true")
    assert fresh_starts(project) == 3


def test_changed_data_asks_and_data_that_is_not_known_now_does_not(sweep, project):
    (project / "descent" / "data.py").write_text(
        "import os\n\ndef digest(config): return os.environ.get('DIGEST', '')\n"
    )
    command = ["curve.rate=0.1,0.9", "hydra.sweeper.data_digest=descent.data.digest"]
    assert sweep(*command, DIGEST="one").returncode == 0
    assert sweep(*command).returncode == 0  # such as a hub that does not answer
    done = sweep(*command, DIGEST="two")
    assert done.returncode == 1
    assert "The data has changed since 2 job(s)" in done.stderr


def test_a_sweep_goes_on_where_the_ledger_does_not_know_it(descent, project, tmp_path):
    descent(*SEARCH, "curve.rate=0.1,0.9", LAUNCHERS_HOME=str(tmp_path / "one"))
    descent(*SEARCH, "curve.rate=0.1,0.9,0.5", LAUNCHERS_HOME=str(tmp_path / "two"))
    assert fresh_starts(project) == 3
    (project / "out" / "sweep.json").write_text("{")
    done = descent(*SEARCH, "curve.rate=0.1,0.9,0.5", LAUNCHERS_HOME=str(tmp_path / "three"))
    assert done.returncode == 1
    assert "damaged" in done.stderr


def test_a_failed_job_stops_no_other_and_the_exit_code_says_so(sweep, project):
    done = sweep("fail_at=null,2", "curve.rate=0.5,0.9")
    assert done.returncode == 1
    assert [row["state"] for row in table(project)] == ["finished", "finished", "failed", "failed"]
    assert "diverged at step 2" in table(project)[-1]["note"]
    assert "2 of 4 jobs failed: diverged at step 2." in done.stdout + done.stderr


def test_a_job_whose_log_cannot_be_opened_is_a_failed_job_and_stops_no_other(sweep, project):
    sweep("fail_at=1", "curve.rate=0.5,0.9")
    console = project / "out" / "0" / "console.log"
    console.unlink()
    console.mkdir()
    done = sweep("fail_at=1,null", "curve.rate=0.5,0.9")
    assert done.returncode == 1
    states = {row["job"]: row["state"] for row in table(project)}
    assert states == {"0": "failed", "1": "failed", "2": "finished", "3": "finished"}, done.stderr
    assert [row["note"] for row in table(project) if "Is a directory" in row["note"]]
    assert "job 0 failed: The job's files cannot be written" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_sweep_whose_jobs_all_fail_says_why_in_one_sentence(sweep, project):
    done = sweep("fail_at=1", "curve.rate=0.5,0.9")
    assert done.returncode == 1
    assert "All 2 jobs failed: diverged at step 1." in done.stdout + done.stderr
    mended = sweep("fail_at=1,null", "curve.rate=0.5,0.9")
    assert [row["state"] for row in table(project)].count("finished") == 2, mended.stderr


def test_a_value_that_no_job_returned_is_named_with_those_that_were_measured(sweep, project):
    source = project / "descent" / "__main__.py"
    source.write_text(source.read_text().replace("    return loss\n", ""))
    done = sweep("curve.rate=0.5,0.9", "hydra.sweeper.metric=accuracy")
    assert "No value of accuracy came from job(s) 0, 1" in done.stdout + done.stderr
    assert "they measured loss" in done.stdout + done.stderr


def test_each_finished_job_is_one_line_with_its_value_and_place(sweep):
    done = sweep("curve.rate=0.5,0.1")
    said = done.stdout + done.stderr
    assert re.search(r"job 0 finished: loss [\d.e-]+ \(the best so far\), 0\.\d min; 1 of 2 job\(s\) ended\.", said)
    assert re.search(r"job 1 finished: loss [\d.e-]+ \(best so far [\d.e-]+\)", said)


def test_two_sweeps_at_a_time_in_one_folder_are_refused(descent, project, tmp_path):
    home = str(tmp_path / "home")
    command = [*SEARCH, "curve.rate=0.1,0.5", "steps=1000", "seconds_per_step=0.1"]
    with subprocess.Popen(
        [sys.executable, "-m", "descent", *command], cwd=project, env=environment(LAUNCHERS_HOME=home),
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    ) as first:  # fmt: skip
        try:
            assert first.stdout is not None
            assert any("job 0: curve.rate=0.1" in line for line in first.stdout)
            done = descent(*command, LAUNCHERS_HOME=home)
        finally:
            first.kill()
    assert done.returncode == 1
    assert "Another process runs a sweep in" in done.stderr


@pytest.mark.slow
@pytest.mark.turns(4)
def test_a_client_killed_at_random_moments_ends_with_the_same_table(descent, project, tmp_path):
    draws = random.Random(1)
    home = str(tmp_path / "home")
    command = [*SEARCH, "hydra.sweeper.sampler=tpe", "hydra.sweeper.n_trials=6", "curve.rate=interval(0.1,0.9)"]
    command += ["steps=6", "seconds_per_step=0.1"]
    kills = 0
    while kills < 20:
        process = subprocess.Popen(
            [sys.executable, "-m", "descent", *command], cwd=project, env=environment(LAUNCHERS_HOME=home),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.wait(draws.uniform(1.5, 5.0)) == 0
            break
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            time.sleep(0.05)
    done = descent(*command, LAUNCHERS_HOME=home)
    assert done.returncode == 0, done.stderr
    rows = table(project)
    assert sorted(row["job"] for row in rows) == list("012345")
    assert {row["state"] for row in rows} == {"finished"}
    for row in rows:
        assert float(row["loss"]) == pytest.approx((7 * (1 - float(row["curve.rate"])) ** 6) ** 2, rel=1e-3)


def test_the_gain_is_against_the_configs_own_values_and_only_of_whole_jobs(sweep):
    search = [
        "hydra.sweeper.sampler=random",
        "curve.rate=interval(0.2,0.9)",
        "hydra.sweeper.n_trials=4",
        "hydra.sweeper.pruner=asha",
    ]
    more = ["hydra.sweeper.baseline=true", "steps=6", "report_every=1", "seconds_per_step=0.3"]
    done = sweep(*search, *more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"The best job's loss is [\d.e-]+: -[\d.e-]+ against job 0, which has the values", done.stdout)
    assert "job 0 is paused" not in done.stdout

"""A search with pauses, from its first job to its table: by the sweep's own code, with curves that are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from launchers.search.fingerprint import Fingerprint
from launchers.search.points import StudyPoints
from launchers.search.settings import SweepSettings
from launchers.search.space import read_space
from launchers.search.sweep import Prepared, Sweep
from launchers.search.trials import KeptInMemory, TrialState

WHOLE = 4
"""Validations of a job that runs to its end."""


def searched(
    folder: Path, *, trials: int, at_once: int = 1, direction: str = "maximize", baseline: float | None = None
) -> Sweep[dict[str, str]]:
    """A search in which a job is better by its parameter at each validation."""
    settings = SweepSettings(
        sampler="random", direction=direction, n_trials=trials, pruner="asha", baseline=baseline is not None
    )

    def prepare(params: dict[str, str], seed: int | None) -> Prepared[dict[str, str]]:
        return Prepared(Fingerprint(str(sorted(params.items())), "", ""), params, ())

    points = StudyPoints(read_space({}, ["a=interval(0.0,1.0)"]), settings)
    if baseline is not None:
        assert points.begin_with({"a": baseline})
    sweep = Sweep(
        str(folder), settings, points, KeptInMemory(), prepare, lambda number, prepared: (prepared, str(folder))
    )  # fmt: skip
    better = settings.better
    running: list[tuple[int, float]] = []
    while running or not sweep.is_over():
        while len(running) < at_once and (assigned := sweep.next()) is not None:
            running.append((assigned.trial.number, float(assigned.prepared.job["a"])))
        number, slope = running.pop(0)
        validations = len(sweep.known[number].reports) + 1
        if sweep.report(number, validations, better * validations * slope):
            sweep.ended(number, TrialState.stopped, seconds=1.0)
        elif validations == WHOLE:
            sweep.ended(number, TrialState.finished, better * validations * slope, seconds=1.0)
        else:
            running.append((number, slope))
    sweep.close()
    return sweep


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("trials", [1, 2, 6, 10])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_best_job_has_run_to_its_end_and_the_others_have_not(tmp_path, trials, at_once, direction):
    sweep = searched(tmp_path, trials=trials, at_once=at_once, direction=direction)
    best = max(sweep.all(), key=lambda trial: sweep.settings.better * (trial.value or 0.0))
    finished = [trial for trial in sweep.all() if trial.state is TrialState.finished]
    assert best in finished
    assert len(finished) <= 1 + trials // 2
    assert {trial.state for trial in sweep.all()} <= {TrialState.finished, TrialState.pruned}


def test_the_baseline_runs_to_its_end_however_it_does(tmp_path):
    sweep = searched(tmp_path, trials=6, baseline=0.001)
    first, *others = sweep.all()
    assert (first.state, first.params["a"]) == (TrialState.finished, "0.001")
    assert first.value == min(trial.value for trial in sweep.all() if trial.value is not None)
    assert TrialState.pruned in {trial.state for trial in others}


def test_a_budget_that_is_spent_leaves_the_best_job_paused(tmp_path):
    settings = SweepSettings(sampler="random", direction="maximize", n_trials=2, pruner="asha", max_jobs=1)
    points = StudyPoints(read_space({}, ["a=interval(0.0,1.0)"]), settings)
    sweep = Sweep(
        str(tmp_path), settings, points, KeptInMemory(), lambda params, seed: Prepared(Fingerprint("", "", ""), params, ()),
        lambda number, prepared: (prepared, str(tmp_path)),
    )  # fmt: skip
    assigned = sweep.next()
    assert assigned is not None
    assert sweep.report(assigned.trial.number, 1, 0.5)
    sweep.ended(assigned.trial.number, TrialState.stopped)
    assert sweep.next() is None
    assert [trial.state for trial in sweep.close()] == [TrialState.paused]

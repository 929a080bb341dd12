"""Pure parts of a sweep: its space, who is pruned, what it may spend, what makes a job the same job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from launchers.errors import MendInput
from launchers.ledger import Ledger
from launchers.search.budget import Budget, Spent
from launchers.search.fingerprint import code_digest, config_digest
from launchers.search.points import StudyPoints, importance
from launchers.search.pruning import (
    best_of_rung,
    halving,
    halving_or_first,
    median,
    reached,
    resumed_at,
    rung_of,
    to_finish,
    to_resume,
)
from launchers.search.reports import ReportsFile, parse_report
from launchers.search.results import plain, read_results, recorded, rows_of, write_files
from launchers.search.settings import SweepSettings, checked
from launchers.search.space import Choice, Interval, read_space
from launchers.search.trials import LedgerTrials, Trial, TrialState

# --- the space


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,2,3", Choice("a.b", ("1", "2", "3"))),
        ("choice(x,'4090')", Choice("a.b", ("x", "4090"))),
        ("range(1,4)", Choice("a.b", ("1", "2", "3"))),
        ("interval(0.1,0.9)", Interval("a.b", 0.1, 0.9)),
        ("tag(log,interval(1e-4,1e-2))", Interval("a.b", 1e-4, 1e-2, log=True)),
        ("int(interval(1,8))", Interval("a.b", 1, 8, whole=True)),
    ],
)
def test_a_dimension_is_read_in_hydras_own_grammar(value, expected):
    space = read_space({"a.b": value}, ["fixed=1"])
    assert space.dimensions == (expected,)
    assert space.fixed == ("fixed=1",)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("range(1,1)", "nothing to sweep"),
        ("interval(2,1)", "higher one"),
        ("interval(1,1)", "higher one"),
        ("tag(log,interval(0,1))", "above 0"),
        ("1,2,1", "twice"),
        ("choice(1,", "can't be read"),
    ],
)
def test_a_dimension_that_cannot_be_meant_is_one_sentence(value, words):
    with pytest.raises(MendInput, match=words):
        read_space({"a": value}, [])


def test_the_command_line_replaces_what_the_config_sweeps_and_keeps_the_order():
    space = read_space({"a": "1,2", "b": "3,4"}, ["b=7", "c=x,y"])
    assert [d.key for d in space.dimensions] == ["a", "c"]
    assert [space.overrides(point) for point in space.grid()] == [
        ("a=1", "b=7", "c=x"), ("a=1", "b=7", "c=y"), ("a=2", "b=7", "c=x"), ("a=2", "b=7", "c=y"),
    ]  # fmt: skip


def test_a_grid_of_an_interval_says_what_to_write():
    with pytest.raises(MendInput, match=r"a=0\.1,0\.9"):
        list(read_space({}, ["a=interval(0.1,0.9)"]).grid())


def test_probes_touch_every_end_and_every_value():
    probes = read_space({}, ["a=interval(1.0,2.0)", "b=x,y,z"]).probes()
    assert {p["a"] for p in probes} == {"1.0", "2.0"}
    assert {p["b"] for p in probes} == {"x", "y", "z"}


# --- who goes on

CURVES = {0: [1, 2, 3], 1: [2, 2], 2: [3, 5], 3: [0], 4: [4], 5: [1]}


@pytest.mark.parametrize(
    ("validations", "rung", "passed"), [(0, None, -1), (1, 0, 0), (2, None, 0), (3, 1, 1), (8, None, 1), (9, 2, 2)]
)
def test_rungs_are_counted_in_validations(validations, rung, passed):
    assert rung_of(validations, 1, 3) == rung
    assert reached(validations, 1, 3) == passed


def test_a_rung_promotes_the_best_of_those_that_came_to_it():
    assert best_of_rung(CURVES, 0, 1, 3) == [4, 2]
    assert best_of_rung(CURVES, 0, 1, 2) == [4, 2, 1]
    assert best_of_rung({0: [1], 1: [1], 2: [1]}, 0, 1, 3) == [0]


@pytest.mark.parametrize(
    ("curves", "goes_on", "goes_on_alone"),
    [
        ({9: [5]}, False, True),
        ({0: [6], 9: [5]}, False, False),
        ({0: [1], 1: [2], 9: [5]}, True, True),
        ({0: [7], 1: [8], 9: [5]}, False, False),
        ({0: [1], 9: [5, 5]}, True, True),  # between rungs nobody is judged
    ],
)
def test_halving_judges_on_rungs_only(curves, goes_on, goes_on_alone):
    assert halving(curves, 9, 1, 3) is goes_on
    assert halving_or_first(curves, 9, 1, 3) is goes_on_alone


@pytest.mark.parametrize(
    ("curve", "least", "goes_on"),
    [([1], 1, False), ([5], 1, True), ([1], 2, True), ([5, 0], 1, True), ([0, 0], 1, False)],
)
def test_the_median_is_of_the_best_so_far(curve, least, goes_on):
    others = {n: [2 + n, 2 + n] for n in range(4)}
    assert median({**others, 9: curve}, 9, least) is goes_on
    assert median({0: [9], 9: curve}, 9, least)  # too few others


def test_the_highest_rung_that_promotes_a_paused_job_resumes_it():
    curves = {0: [1], 1: [2], 2: [3], 3: [9, 9, 1], 4: [9, 9, 2], 5: [9, 9, 3]}
    assert to_resume(curves, [0, 1, 2, 3, 4, 5], 1, 3) == 5
    assert to_resume(curves, [0, 1, 2], 1, 3) is None
    assert to_resume(curves, [3, 4], 1, 3) is None


@pytest.mark.parametrize(
    ("values", "paused", "finishes"),
    [({}, [], None), ({0: 3.0, 1: 4.0}, [0, 1], 1), ({0: 4.0, 1: 4.0}, [0, 1], 0), ({0: 5.0, 1: 4.0}, [1], None)],
)
def test_a_search_ends_with_its_best_job_run_to_the_end(values, paused, finishes):
    assert to_finish(values, paused) == finishes
    assert resumed_at(1, 1, 3) == 2
    assert resumed_at(3, 1, 3) == 6


# --- what it may spend


@pytest.mark.parametrize(
    ("budget", "spent", "stops", "no_more"),
    [
        (Budget(), Spent(1e6, 1e6, 10**6), False, False),
        (Budget(max_cost=1), Spent(0.99), False, False),
        (Budget(max_cost=1), Spent(1.0), True, True),
        (Budget(max_hours=2), Spent(hours=2.1), True, True),
        (Budget(max_jobs=3), Spent(jobs=3), False, True),
    ],
)
def test_a_budget_ends_a_sweep(budget, spent, stops, no_more):
    assert (budget.why_stop(spent) is not None) is stops
    assert (budget.why_no_more(spent) is not None) is no_more


@pytest.mark.parametrize(
    "given",
    [
        {"sampler": "best"}, {"direction": "up"}, {"pruner": "hard"}, {"n_trials": 0}, {"reduction_factor": 1},
        {"max_cost": 0}, {"max_hours": -1}, {"seeds": 2, "pruner": "asha"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_name_their_key(given):
    with pytest.raises(MendInput, match=f"{next(iter(given))}="):
        checked(given)


# --- the same job


def test_a_config_is_the_same_whatever_this_side_is_told():
    config = {"hydra": {"a": 1}, "provider": {"name": "vast"}, "optim": {"lr": 1, "note": "x"}, "seed": 0}
    ignore = ["provider", "optim.note"]
    same = {"hydra": {"a": 2}, "provider": {"name": "local"}, "seed": 0, "optim": {"note": "y", "lr": 1}}
    assert config_digest(config, ignore) == config_digest(same, ignore)
    assert config_digest(config, ignore) != config_digest({**config, "seed": 1}, ignore)


def test_code_is_the_apps_own_python_files(tmp_path, monkeypatch):
    package = tmp_path / "made_up_app"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "inner/part.py", "notes.txt"):
        (package / name).write_text("1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_digest({"made_up_app"}, tmp_path)
    (package / "notes.txt").write_text("2\n")
    assert code_digest({"made_up_app"}, tmp_path) == before
    (package / "inner" / "part.py").write_text("2\n")
    assert code_digest({"made_up_app"}, tmp_path) != before


# --- trials


def trial(number: int, folder: Path, **changes: object) -> Trial:
    base = Trial(
        str(folder), number, number, f"f{number}", "code", "data", {"a": str(number)}, str(folder / str(number))
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_trials_survive_in_the_ledger(tmp_path):
    ledger = Ledger(tmp_path / "ledger.sqlite")
    kept = LedgerTrials(ledger)
    first = trial(0, tmp_path, state=TrialState.running)
    kept.put(first)
    kept.put(trial(1, tmp_path / "other"))
    done = replace(first.with_report(4, 0.5), state=TrialState.pruned, value=0.5, cost=0.25)
    kept.put(done)
    ledger.close()
    assert LedgerTrials(Ledger(tmp_path / "ledger.sqlite")).of(str(tmp_path)) == [done]


def test_a_report_counts_once_and_never_backwards(tmp_path):
    one = trial(0, tmp_path).with_report(4, 1.0).with_report(4, 2.0).with_report(2, 3.0).with_report(8, 4.0)
    assert one.reports == ((4, 1.0), (8, 4.0))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"step": 3, "value": 0.5}', (3, 0.5)), ('{"step": 3, "value": 1}', (3, 1.0)), ('{"step": 3, "val', None),
        ('{"step": "3", "value": 1}', None), ('{"step": 3, "value": NaN}', None), ("[]", None), ('{"step": 3}', None),
    ],
)  # fmt: skip
def test_a_line_of_a_report_is_trusted_only_whole(line, expected):
    assert parse_report(line) == expected


def test_a_reports_file_is_read_as_it_grows(tmp_path):
    reports = ReportsFile(tmp_path)
    assert reports.new() == []
    (tmp_path / "reports.jsonl").write_text('{"step": 1, "value": 2}\n{"step": 2, "va')
    assert reports.new() == [(1, 2.0)]
    with (tmp_path / "reports.jsonl").open("a") as file:
        file.write('lue": 3}\n')
    assert reports.new() == [(2, 3.0)]
    assert reports.new() == []


# --- the study


SPACE = read_space({}, ["a=interval(0.0,1.0)", "b=x,y", "c=int(interval(1,9))"])


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes"])
def test_a_rebuilt_study_goes_on_with_other_points(sampler):
    settings = SweepSettings(sampler=sampler, direction="maximize", n_trials=6)
    study = StudyPoints(SPACE, settings)
    points = [study.ask(n) for n in range(4)]
    for number, point in enumerate(points[:3]):
        study.tell(number, float(point["a"]), point)
    again = StudyPoints(SPACE, settings)
    for number, point in enumerate(points):
        again.restore(number, point, float(point["a"]) if number < 3 else None, ended=number < 3)
    again.tell(3, 0.5, points[3])
    new = [again.ask(n) for n in (4, 5)]
    assert all(point not in points for point in new)
    assert all(0 <= float(p["a"]) <= 1 and p["b"] in "xy" and 1 <= int(p["c"]) <= 9 for p in [*points, *new])


def test_searches_with_neighboring_seeds_draw_different_points():
    drawn = []
    for seed in (1, 2):
        study = StudyPoints(SPACE, SweepSettings(sampler="random", sampler_seed=seed))
        drawn.append({study.ask(number)["a"] for number in range(8)})
    assert not drawn[0] & drawn[1]


def test_tpe_finds_what_random_search_misses():
    """A point near the optimum of a bowl in 40 draws; both are fixed by their seeds."""
    best = {}
    for sampler in ("random", "tpe"):
        study = StudyPoints(
            read_space({}, ["a=interval(0.0,1.0)", "b=interval(0.0,1.0)"]), SweepSettings(sampler=sampler)
        )
        values = []
        for number in range(40):
            point = study.ask(number)
            values.append((float(point["a"]) - 0.3) ** 2 + (float(point["b"]) - 0.8) ** 2)
            study.tell(number, values[-1], point)
        best[sampler] = min(values)
    assert best["tpe"] < best["random"]


def test_a_search_can_begin_with_the_configs_own_values():
    study = StudyPoints(SPACE, SweepSettings(sampler="tpe"))
    assert study.begin_with({"a": 0.25, "b": "y", "c": 3})
    assert study.ask(0) == {"a": "0.25", "b": "y", "c": "3"}
    assert not StudyPoints(SPACE, SweepSettings(sampler="tpe")).begin_with({"a": 2.0, "b": "y", "c": 3})


def test_importance_names_the_parameter_that_matters_and_needs_ten_points():
    space = read_space({}, ["a=interval(0.0,1.0)", "b=interval(0.0,1.0)"])
    settings = SweepSettings(sampler="random", direction="maximize")
    study = StudyPoints(space, settings)
    points = [(p := study.ask(n), float(p["a"])) for n in range(30)]
    shares = importance(points, space, settings)
    assert shares is not None
    assert shares["a"] > 0.8
    assert importance(points[:9], space, settings) is None


# --- the table


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("3", 3), ("'4090'", "4090"), ("true", True), ("x", "x")])
def test_swept_values_are_plain_in_the_table(text, value):
    assert plain(text) == value


def test_the_table_is_best_first_and_a_pruned_job_never_beats_one_that_ran(tmp_path):
    settings = SweepSettings(direction="maximize", metric="validation/rougeL", figures=["test/*"])
    states = [
        (TrialState.finished, 1.0),
        (TrialState.pruned, 9.0),
        (TrialState.finished, 2.0),
        (TrialState.failed, None),
    ]
    trials = [trial(n, tmp_path, state=state, value=value) for n, (state, value) in enumerate(states)]
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "metrics.json").write_text(json.dumps({"test/rougeL": 7.5, "train/loss": 1.0}))
    results = read_results(trials, settings)
    assert [r.trial.number for r in results] == [2, 0, 1, 3]
    rows = rows_of(results, ["a"], settings)
    assert rows[0] | {"a": 2, "validation/rougeL": 2.0, "test/rougeL": 7.5, "job": 2, "state": "finished"} == rows[0]
    write_files(tmp_path, results, ["a"], settings, None)
    assert (tmp_path / "sweep.csv").read_text().startswith("job,a,validation/rougeL,test/rougeL,state,")
    assert sorted(recorded(tmp_path), key=lambda t: t.number) == trials


def test_a_half_written_record_is_one_sentence(tmp_path):
    (tmp_path / "sweep.json").write_text('{"trials": [{"swe')
    with pytest.raises(MendInput, match="damaged"):
        recorded(tmp_path)

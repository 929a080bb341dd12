"""Which folders are runs, what a run's folder says, and what is left out by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from summarizer.errors import ConfigError
from summarizer.report.build import compared
from summarizer.report.comparison_page import comparison_page
from summarizer.report.differences import differing
from summarizer.report.page import render
from summarizer.report.records import find_runs, read_curves, read_run
from summarizer.tasks.report import show_comparison
from tests.summarizer.report.folders import make_run


def test_a_sweep_folder_stands_for_its_jobs(tmp_path: Path) -> None:
    for job in range(3):
        make_run(tmp_path / "sweep" / str(job))
    for pattern in (
        str(tmp_path / "sweep"),
        f"{tmp_path}/**",
        f"{tmp_path}/sweep/*",
        f"{tmp_path}/sweep/*/metrics.json",
    ):
        runs, left_out = find_runs([pattern])
        assert [run.folder.name for run in runs] == ["0", "1", "2"], pattern
        assert left_out == [], pattern


def test_broken_and_foreign_folders_are_named_and_left_out(tmp_path: Path) -> None:
    make_run(tmp_path / "good")
    interrupted = make_run(tmp_path / "interrupted")
    (interrupted / "metrics.json").unlink()
    (interrupted / "status.json").write_text(json.dumps({"state": "interrupted"}))
    broken = make_run(tmp_path / "broken")
    (broken / "config.yaml").write_text("a: [")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("hello: world\n")
    half = make_run(tmp_path / "half")
    (half / "metrics.json").write_text('{"test/rougeL": ')
    runs, left_out = find_runs([f"{tmp_path}/**", str(tmp_path / "absent")])
    assert [run.folder.name for run in runs] == ["good"]
    reasons = {Path(path).name: reason for path, reason in left_out}
    assert set(reasons) == {"interrupted", "broken", "foreign", "half", "absent"}
    assert "interrupted" in reasons["interrupted"]
    assert "config.yaml" in reasons["broken"]


def test_no_run_at_all_is_one_sentence_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no finished run is there.*outputs/\*\*"):
        find_runs([str(tmp_path / "*")])


def test_a_run_without_a_model_or_predictions_is_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "0")
    (folder / "predictions.parquet").write_bytes(b"PAR1 cut off")
    assert read_run(folder).predictions is None


def test_numbers_and_other_values_of_metrics_are_kept_apart(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "0"))
    assert run.texts == {"test/rouge_tokenizer": "rouge_score"}
    assert "test/rouge_tokenizer" not in run.metrics


def test_of_two_rows_of_a_step_the_later_counts(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step,train/loss\n0,4,3.0\n0,9,2.0\n0,4,2.5\n0,9,nan\n0,,1\nbroken\n")
    assert read_curves(path) == {"train/loss": [(5.0, 2.5), (10.0, 2.0)]}


def test_what_command_lines_name_explains_what_differs(tmp_path: Path) -> None:
    runs = [read_run(make_run(tmp_path / str(i), lr=lr)) for i, lr in enumerate((1e-3, 3e-3))]
    assert differing(runs) == ["optim.lr"], "model.recipe.lr follows from it"
    runs.append(read_run(make_run(tmp_path / "other", seed=5)))
    assert differing(runs) == ["optim.lr", "seed"]


def test_a_job_that_its_sweep_pruned_counts_with_its_last_validation_and_after_those_that_ran_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = tmp_path / "sweep"
    make_run(sweep / "0", lr=1e-3, quality=0.3)
    make_run(sweep / "1", lr=2e-3, quality=0.28)
    for number, quality in (("2", 0.5), ("3", 0.2)):
        folder = make_run(sweep / number, lr=int(number) * 3e-3, quality=quality, steps=50)
        (folder / "metrics.json").unlink()
        (folder / "predictions.parquet").unlink()
        (folder / "status.json").write_text(json.dumps({"state": "interrupted"}))
    rows = [{"job": 0, "state": "finished", "minutes": 7.5}, {"job": 2, "state": "pruned", "minutes": 2.5}]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": rows}))
    c = compared([str(sweep)], "validation/rougeL", maximize=True)
    assert [(run.folder.name, run.pruned, run.minutes) for run in c.runs] == [
        ("0", False, 7.5), ("1", False, 1.5), ("2", True, 2.5),
    ]  # fmt: skip
    assert c.runs[2].metrics["validation/rougeL"] == pytest.approx(25.0 * 0.98, rel=0.02)
    assert [path for path, _ in c.left_out] == [str(sweep / "3")], "the sweep does not say that it pruned it"
    page = render(comparison_page(c, "a sweep"))
    assert "pruned at step 50" in page
    assert "paired" in page, "the whole ones are still compared on their rows"
    show_comparison(c)
    assert "pruned at step 50" in capsys.readouterr().out

"""What a training reports for a search that prunes."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from summarizer.training.reports import ReportedObjective


@pytest.mark.parametrize(("step", "reported"), [(4, False), (5, False), (6, True), (19, True), (20, False)])
def test_nothing_is_reported_in_the_warmup_nor_at_the_end(step, reported, tmp_path):
    trainer = SimpleNamespace(
        sanity_checking=False, is_global_zero=True, global_step=step, max_steps=20,
        callback_metrics={"validation/rougeL": 12.5, "validation/loss": 1.0},
    )  # fmt: skip
    ReportedObjective(tmp_path, "validation/rougeL", warmup_steps=5).on_validation_end(trainer, None)
    lines = (tmp_path / "reports.jsonl").read_text().splitlines() if (tmp_path / "reports.jsonl").exists() else []
    assert [json.loads(line) for line in lines] == ([{"step": step, "value": 12.5}] if reported else [])


def test_a_metric_that_was_not_measured_reports_nothing(tmp_path):
    trainer = SimpleNamespace(
        sanity_checking=False, is_global_zero=True, global_step=6, max_steps=20, callback_metrics={"validation/loss": float("nan")}
    )  # fmt: skip
    for metric in ("validation/rougeL", "validation/loss"):
        ReportedObjective(tmp_path, metric, warmup_steps=0).on_validation_end(trainer, None)
    assert not (tmp_path / "reports.jsonl").exists()

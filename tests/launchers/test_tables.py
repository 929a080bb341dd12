"""The table of jobs says what their value is."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from launchers.cli.job_tables import jobs_table
from launchers.cli.tables import show
from launchers.job import JobSpec, JobState, Results
from launchers.ledger import JobRecord


def record(number: int, value: float | None, objective: str | None) -> JobRecord:
    settings = {} if objective is None else {"objective": objective}  # ledgers of earlier versions name none
    spec = JobSpec(
        f"x-{number}", number, str(PurePosixPath("out") / str(number)), "app", (), "digest", settings, {}, 1.0
    )
    return JobRecord(
        spec, "x", JobState.finished, Results.verified, None, 0, value, None, 0.0, 60.0, 0.1, False, 0, None, 60.0
    )


@pytest.mark.parametrize(
    ("objectives", "shown", "absent"),
    [
        (["validation/rougeL", "validation/rougeL"], ["validation/rougeL"], ["metric", "objective"]),
        (["validation/rougeL", "validation/loss"], ["metric", "objective", "validation/rougeL", "validation/loss"], []),
        (["validation/rougeL", None], ["metric", "objective", "validation/rougeL"], []),
        ([None, None], ["metric"], ["objective"]),
    ],
)
def test_a_value_stands_under_the_name_of_its_objective(objectives, shown, absent, capsys):
    records = [record(number, 34.5, objective) for number, objective in enumerate(objectives)]
    show(jobs_table(records, 60.0))
    table = capsys.readouterr().out
    assert [word for word in shown if word not in table] == []
    assert [word for word in absent if word in table] == []
    show(jobs_table(records, 60.0), as_json=True)
    assert '"metric": 34.5' in capsys.readouterr().out

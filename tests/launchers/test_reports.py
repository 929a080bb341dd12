"""What a job reports while it runs, from its file to a step and a value."""

from __future__ import annotations

import pytest

from launchers.lifecycle.running import report_of


@pytest.mark.parametrize(
    ("line", "report"),
    [
        ('{"step": 3, "value": 0.5}', (3, 0.5)),
        ('{"step": 3, "value": 2, "more": 1}', (3, 2.0)),
        ('{"step": 3, "value": NaN}', None),
        ('{"step": 3, "value": Infinity}', None),
        ('{"step": -1, "value": 1}', None),
        ('{"step": 1.5, "value": 1}', None),
        ('{"step": true, "value": 1}', None),
        ('{"step": 1, "value": "x"}', None),
        ('{"step": 1}', None),
        ("[1, 2]", None),
        ("not JSON", None),
        ("[" * 100_000, None),
    ],
)
def test_only_a_step_with_a_finite_value_is_a_report(line: str, report: tuple[int, float] | None):
    assert report_of(line) == report

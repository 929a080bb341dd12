"""Progress of a job, from files that it writes and that are downloaded while it runs.

`progress.json`: `{"step": 200, "steps": 3000, "left_s": 312.0, "loss": 3.2}`, all but the first where the job knows them. Without
it, the last step of `reports.jsonl`. While the job does something else than its steps: `"stage": "validation", "done": 400, "of": 1000`
besides. Both come from a rented machine: values that make no sense are ignored.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.search.reports import FILE as REPORTS
from launchers.search.reports import parse_report

FILE = "progress.json"
_MOST_BYTES = 1 << 16


@dataclass(frozen=True)
class Progress:
    """Of a running job, when its files were last downloaded."""

    step: int
    steps: int | None = None
    left_s: float | None = None
    """Seconds to its end."""
    loss: float | None = None
    stage: str | None = None
    """What the job does instead of a step, and how far it is: `validation 40 %`."""


def progress_of(folder: Path) -> Progress | None:
    """The progress in a job's folder; None if there is none."""
    try:
        said = json.loads(_tail(folder / FILE))
    except ValueError:
        said = None
    if isinstance(said, dict) and (step := _whole(said.get("step"))) is not None:
        steps, left, loss = _whole(said.get("steps")), _seconds(said.get("left_s")), _number(said.get("loss"))
        return Progress(step, steps, left, loss, _stage(said))
    reports = [report for line in _tail(folder / REPORTS).splitlines() if (report := parse_report(line))]
    return Progress(reports[-1][0]) if reports else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53 else None


def _stage(said: dict[str, Any]) -> str | None:
    name, done, of = said.get("stage"), _whole(said.get("done")), _whole(said.get("of"))
    if not isinstance(name, str) or not re.fullmatch("[a-z ]{1,20}", name):
        return None
    return f"{name} {min(done / of, 1.0):.0%}".replace("%", " %") if done is not None and of else name


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _seconds(value: Any) -> float | None:
    seconds = _number(value)
    return seconds if seconds is not None and seconds >= 0 else None


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _MOST_BYTES, 0))
            return file.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""

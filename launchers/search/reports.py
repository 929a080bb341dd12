"""Values that a job reports while it runs: JSON lines `{"step": int, "value": float}` of `reports.jsonl` in its output folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

FILE = "reports.jsonl"


def parse_report(line: str) -> tuple[int, float] | None:
    """(step, value) of a line; None for one that says nothing usable, such as the half of one."""
    try:
        row = json.loads(line)
        step, value = row["step"], row["value"]
    except (ValueError, TypeError, KeyError):
        return None
    numbers = isinstance(step, int) and isinstance(value, int | float) and not isinstance(value, bool)
    return (step, float(value)) if numbers and math.isfinite(value) else None


class ReportsFile:
    """A file that grows; each line is read once, a half one when the rest of it has come."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        self._offset = 0

    def new(self) -> list[tuple[int, float]]:
        """What was written since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        found = map(parse_report, whole.decode(errors="replace").splitlines())
        return [report for report in found if report is not None]

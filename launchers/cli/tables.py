"""Tables for people and JSON for scripts, of the same rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from launchers.ledger import JobRecord
from launchers.plan import Candidate, Plan
from launchers.text import shown

LONGEST_CELL = 2000


@dataclass
class Sheet:
    """Rows with named columns."""

    title: str
    columns: Sequence[str]
    rows: list[dict[str, Any]]
    note: str = ""
    right: frozenset[str] = field(default_factory=frozenset)
    headers: Mapping[str, str] = field(default_factory=dict)
    """What a column is called in the table, where that is not its name."""


def show(sheet: Sheet, as_json: bool = False) -> None:
    """Print it: JSON holds the plain values, the table their short forms."""
    if as_json:
        json.dump(sheet.rows, sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # Text, not markup: much of what stands here are words of a machine, a provider or a job.
    note = Text(shown(sheet.note), style="table.caption") if sheet.note else None
    table = Table(
        title=Text(sheet.title, style="table.title"), title_justify="left", caption=note, caption_justify="left"
    )
    for column in sheet.columns:
        table.add_column(
            sheet.headers.get(column, column.replace("_", " ")),
            justify="right" if column in sheet.right else "left",
            overflow="fold",
        )
    for row in sheet.rows:
        table.add_row(*(Text(_short(column, row.get(column))) for column in sheet.columns))
    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _short(column: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if column.startswith("$"):
            return f"{value:.4f}" if abs(value) < 0.1 else f"{value:.2f}"
        return f"{value:.4g}"
    text = shown(str(value), lines=False)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}..."


_PLAN_COLUMNS = ("provider", "offer", "card", "gib", "kind", "$/h", "hours", "$_job", "mbit/s", "reliability", "region")


def plan_table(plan: Plan, most: int = 12) -> Sheet:
    """The plan: what would be rented first, then the rest, spot and on-demand side by side."""
    ranked = sorted([*plan.candidates, *plan.alternatives], key=lambda c: c.cost)[:most]
    chosen = plan.candidates[0] if plan.candidates else None
    rows = [candidate_row(c) | {"chosen": c is chosen} for c in ranked]
    upper = (
        "Hours are the upper bound provider.max_hours: nothing better is known. "
        if plan.forecast.is_upper_bound
        else ""
    )
    kind = "spot" if plan.need.spot else "on-demand"
    note = f"{upper}{'* selected (' + kind + '). ' if chosen else ''}{len(plan.refusals)} offers do not fit."
    if not all(c.offer.charging.while_idle for c in ranked):
        note += " What is billed by running job is priced by a dated list: an estimate."
    for row in rows:
        row["offer"] = f"{row['offer']} *" if row["chosen"] else row["offer"]
    return Sheet(
        "Plan", _PLAN_COLUMNS, rows, note, frozenset({"$/h", "hours", "$_job", "mbit/s", "gib", "reliability"})
    )


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    offer = candidate.offer
    return {
        "provider": offer.provider, "offer": offer.id, "card": f"{offer.num_gpus} x {offer.gpu}", "gib": round(offer.gpu_memory_gib),
        "kind": "spot" if offer.spot else "on-demand", "$/h": offer.price, "hours": candidate.hours, "$_job": candidate.cost,
        "mbit/s": round(offer.download_mbps), "reliability": offer.reliability or None, "region": offer.region,
    }  # fmt: skip


_JOB_COLUMNS = ("job", "state", "metric", "objective", "minutes", "$", "results", "machine", "folder", "note")


def _minutes(record: JobRecord, now: float) -> float | None:
    """Of all machines that a job had; where only its running is billed, since it started."""
    if record.seconds:
        return record.seconds / 60
    return ((record.ended or now) - record.started) / 60 if record.started else None


def job_row(record: JobRecord, now: float) -> dict[str, Any]:
    minutes = _minutes(record, now)
    return {
        "job": record.spec.id, "launch": record.launch, "number": record.spec.number, "state": record.state.value,
        "metric": record.value, "objective": record.spec.settings.get("objective"), "minutes": minutes, "$": record.cost,
        "results": record.results.value, "restarts": record.restarts, "machine": record.machine, "folder": record.spec.folder,
        "note": record.note,
    }  # fmt: skip


def jobs_table(records: list[JobRecord], now: float) -> Sheet:
    """The closing table of a launch, and `ps`. The value stands under the objective's name; of several, each job names its own."""
    names = {record.spec.settings.get("objective") for record in records if record.value is not None}
    name = names.pop() if len(names) == 1 else None
    headers = {"metric": name} if name else {}
    shown = {"note": any(record.note for record in records), "objective": bool(names), "machine": False}
    columns = tuple(column for column in _JOB_COLUMNS if shown.get(column, True))
    right = frozenset({"metric", "minutes", "$"})
    return Sheet("Jobs", columns, [job_row(r, now) for r in records], right=right, headers=headers)


def show_ended(records: list[JobRecord], now: float, as_json: bool = False) -> None:
    """How the jobs of a launch ended; of a single one, the folder too, on a line that scripts can read."""
    show(jobs_table(records, now), as_json)
    if len(records) == 1 and not as_json:
        print(f"The job's folder: {records[0].spec.folder}", flush=True)


def estimate_rows(plan: Plan, hardware: str | None, provider: str) -> list[dict[str, Any]]:
    """The cheapest offer of each kind for a job, or why there is none."""
    rows = []
    for best in (plan.candidates[:1], plan.alternatives[:1]):
        rows += [
            candidate_row(c) | {"hardware": hardware, "note": "at most" if plan.forecast.is_upper_bound else None}
            for c in best
        ]
    if not rows:
        rows.append({"hardware": hardware, "provider": provider, "card": plan.need.gpu, "note": plan.why_none()})
    return rows

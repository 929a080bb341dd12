"""Tables of jobs and machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from launchers.cli.tables import Sheet, print_json, print_lines, show
from launchers.formats import count, dollars, duration, short_id, short_label, since
from launchers.job import Billing
from launchers.ledger import JobRecord, MachineRecord
from launchers.search.progress import progress_of
from launchers.text import shown as text

_ENDED_COLUMNS = ("job", "overrides", "state", "metric", "objective", "minutes", "$", "results")
_PS_COLUMNS = ("job", "overrides", "provider", "state", "step", "left", "metric", "$", "started")
_MACHINE_COLUMNS = ("machine", "provider", "instance", "card", "billing", "$/h", "minutes", "$")
_FIGURES = frozenset({"metric", "minutes", "$", "$/h", "step", "left"})
_HEADERS = {"minutes": "time"}
DEFAULTS = "(defaults)"


def _of_minutes(minutes: float) -> str:
    return duration(minutes * 60)


_FORMATS: dict[str, Callable[[Any], str]] = {"job": short_id, "machine": short_label, "minutes": _of_minutes}


def jobs_table(records: Sequence[JobRecord], now: float) -> Sheet:
    """The jobs of a launch at its end. A value stands under its objective's name; of several, each job names its own."""
    objectives = _objectives(records)
    optional = {"objective": len(objectives) > 1, "overrides": len(records) > 1}
    columns = tuple(column for column in _ENDED_COLUMNS if optional.get(column, True))
    return _sheet("Jobs", columns, job_rows(records, (), now), _metric_header(objectives))


def ps_table(records: Sequence[JobRecord], machines: Sequence[MachineRecord], now: float) -> Sheet:
    rows = job_rows(records, machines, now)
    shown = [
        row
        | {
            "started": None if row["started"] is None else since(row["started"], now),
            "step": f"{row['step']}/{row['steps']}" if row["steps"] else row["step"],
            "left": None if row["left_s"] is None else duration(row["left_s"]),
            "state": "cancelling" if row["cancelling"] else row["state"],
        }
        for row in rows
    ]
    optional = {column: any(row[column] is not None for row in shown) for column in ("step", "left", "metric")}
    columns = tuple(column for column in _PS_COLUMNS if optional.get(column, True))
    return _sheet("Jobs", columns, shown, _metric_header(_objectives(records)))


def _objectives(records: Iterable[JobRecord]) -> set[str | None]:
    """What the values of jobs are called."""
    return {record.spec.settings.get("objective") for record in records if record.value is not None}


def _metric_header(objectives: set[str | None]) -> dict[str, str]:
    name = next(iter(objectives)) if len(objectives) == 1 else None
    return {"metric": name} if name else {}


def _sheet(
    title: str, columns: Sequence[str], rows: list[dict[str, Any]], headers: Mapping[str, str] = MappingProxyType({})
) -> Sheet:
    """With the notes below it, one per line: a table would fold the ids, paths and commands in them."""
    notes = [
        f"{_FORMATS[columns[0]](row[columns[0]])}: {text(row['note'], lines=False)}" for row in rows if row["note"]
    ]
    return Sheet(title, columns, rows, "\n".join(notes), _FIGURES, {**_HEADERS, **headers}, _FORMATS)


def job_rows(records: Iterable[JobRecord], machines: Iterable[MachineRecord], now: float) -> list[dict[str, Any]]:
    records = list(records)
    by_launch: dict[str, list[JobRecord]] = {}
    for record in records:
        by_launch.setdefault(record.launch, []).append(record)
    overrides = {job: text for group in by_launch.values() for job, text in own_overrides(group).items()}
    by_label = {machine.label: machine for machine in machines}
    return [_job_row(record, overrides[record.spec.id], by_label, now) for record in records]


def _job_row(record: JobRecord, overrides: str, machines: Mapping[str, MachineRecord], now: float) -> dict[str, Any]:
    progress = None if record.state.ended else progress_of(record.spec.home)
    return {
        "job": record.spec.id, "launch": record.launch, "number": record.spec.number, "overrides": overrides or DEFAULTS,
        "provider": record.provider or record.spec.settings.get("name"), "state": record.state.value,
        "cancelling": record.cancel and not record.state.ended,
        "step": progress.step if progress else None, "steps": progress.steps if progress else None,
        "left_s": progress.left_s if progress else None,
        "metric": record.value, "objective": record.spec.settings.get("objective"),
        "started": record.started, "ended": record.ended,
        "minutes": _minutes(record, now), "$": record.cost + _unaccounted(record, machines, now),
        "results": record.results.value, "restarts": record.restarts, "machine": record.machine,
        "folder": record.spec.folder, "note": record.note,
    }  # fmt: skip


def own_overrides(records: Sequence[JobRecord]) -> dict[str, str]:
    """The overrides in which the jobs of a launch differ; of a single one, all that its user gave."""
    given = {record.spec.id: _given(record) for record in records}
    common = set.intersection(*map(set, given.values())) if len(given) > 1 else set()
    return {job: " ".join(o for o in overrides if o not in common) for job, overrides in given.items()}


def _given(record: JobRecord) -> list[str]:
    added = set(record.spec.settings.get("remote_overrides", ()))
    return [o for o in record.spec.overrides if o not in added and not o.startswith(("--", "hydra."))]


def _minutes(record: JobRecord, now: float) -> float | None:
    """Of all machines that a job had; where only its running is billed, since it started."""
    if record.seconds:
        return record.seconds / 60
    return ((record.ended or now) - record.started) / 60 if record.started else None


def _unaccounted(record: JobRecord, machines: Mapping[str, MachineRecord], now: float) -> float:
    """$ since the meter of a job's machine was read."""
    machine = machines.get(record.machine or "")
    if (
        machine is None
        or not machine.offer.charging.while_idle
        or machine.job != record.spec.id
        or machine.instance is None
    ):
        return 0.0
    if machine.billing is Billing.gone or record.state.ended:
        return 0.0
    return max(now - (machine.accounted or machine.created), 0.0) / 3600 * machine.price


def show_ended(records: Sequence[JobRecord], now: float, as_json: bool = False) -> None:
    """How the jobs of a launch ended, and their folders, on lines that scripts can read."""
    if as_json:
        print_json(job_rows(records, (), now))
        return
    show(jobs_table(records, now))
    if len(records) == 1:
        print_lines([f"The job's folder: {records[0].spec.folder}"])
        return
    parents = {str(Path(record.spec.folder).parent) for record in records}
    print_lines([f"The jobs' folders are in {parent}" for parent in sorted(parents)])


def machines_table(machines: Iterable[MachineRecord], now: float, title: str = "Machines") -> Sheet:
    return _sheet(title, _MACHINE_COLUMNS, [machine_row(machine, now) for machine in machines])


def machine_row(machine: MachineRecord, now: float) -> dict[str, Any]:
    return {
        "machine": machine.label, "launch": machine.launch, "provider": machine.provider, "instance": machine.instance,
        "card": machine.offer.gpu, "billing": machine.billing.value, "$/h": machine.price,
        "minutes": ((machine.ended or now) - machine.created) / 60, "$": machine.cost(now), "note": machine.note,
    }  # fmt: skip


def spent_line(machines: Sequence[MachineRecord], jobs: Sequence[JobRecord], now: float) -> str:
    """What everything in the ledger has cost so far."""
    total = sum(machine.cost(now) for machine in machines)
    first = min((machine.created for machine in machines), default=now)
    day = time.strftime("%Y-%m-%d", time.localtime(first))
    return f"Spent so far, {count(len(jobs), 'job')} since {day}: {dollars(total, sign='$')}"

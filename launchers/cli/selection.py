"""Jobs selected by what a user types: any unique part of an id, or nothing for the last launch."""

from __future__ import annotations

import sys

from launchers.errors import MendInput, UnknownJob
from launchers.formats import count, short_id
from launchers.ledger import JobRecord, Ledger

LISTED = 8
"""Matches that an error message lists."""
NO_JOBS = "No jobs yet."


def find_jobs(ledger: Ledger, part: str | None) -> list[JobRecord]:
    """The one job or all jobs of the one launch that `part` means; without it, those of the last launch.

    Raises:
        UnknownJob: none, or several.
    """
    if part is None:
        return _last(ledger)
    launches: dict[str, list[JobRecord]] = {}
    jobs: dict[str, list[JobRecord]] = {}
    for record in ledger.jobs():
        launches.setdefault(record.launch, []).append(record)
        jobs[record.spec.id] = [record]
    things = launches | jobs
    matches = (
        [name for name in things if part in (name, short_id(name))]
        or [name for name in launches if part in name]
        or [name for name in jobs if part in name]
    )
    if not matches:
        raise UnknownJob(f"No job matches {part!r}: `python -m launchers ps --all` lists all jobs.")
    if len(matches) > 1:
        raise UnknownJob(f"{part!r} matches {_listed(matches)}: type more of one of them.")
    return things[matches[0]]


def _listed(names: list[str]) -> str:
    """Ids in their short form, unless that is what they have in common."""
    short = list(dict.fromkeys(map(short_id, names)))
    shown = short if len(short) == len(names) else names
    return ", ".join(shown[:LISTED]) + (f" and {len(shown) - LISTED} more" if len(shown) > LISTED else "")


def _last(ledger: Ledger) -> list[JobRecord]:
    for launch in reversed(ledger.launches()):
        if records := ledger.jobs(launch):
            print(f"The last launch: {short_id(launch)}, {count(len(records), 'job')}.", file=sys.stderr)
            return records
    raise UnknownJob(f"{NO_JOBS} `python -m launchers doctor` checks what the first one needs.")


def find_one(ledger: Ledger, part: str | None) -> JobRecord:
    """
    Raises:
        MendInput: `part` means a launch of several jobs.
    """
    records = find_jobs(ledger, part)
    if len(records) > 1:
        raise MendInput(
            f"Launch {short_id(records[0].launch)} has {len(records)} jobs: name one, such as {short_id(records[0].spec.id)}."
        )
    return records[0]

"""How a job ended, kept in its own folder: the proof that its results are here, and that it never has to run again.

The ledger may refuse a write at any moment (full disk, database error), also between "results verified" and "job ended". The proof
lies beside the results, is written once all of them are verified, and outranks a ledger that says less.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import Any

from launchers.job import JobSpec, JobState, Results
from launchers.ledger import JobRecord, Ledger
from launchers.remote.files import read_json, write_json
from launchers.secrecy import scrub
from launchers.transport.names import END_NAME

log = logging.getLogger("launchers")


@dataclass(frozen=True)
class Ended:
    """How a job ended on its machine."""

    state: JobState
    note: str | None
    value: Any


def write_proof(job: JobSpec, ended: Ended) -> None:
    """Keep how a job ended beside its results, all of which are verified.

    Raises:
        OSError: this computer's disk is full or read-only.
    """
    row = {"job": job.id, "state": ended.state.value, "note": ended.note and scrub(ended.note), "value": ended.value}
    write_json(str(job.home / END_NAME), row)


def read_proof(job: JobSpec) -> Ended | None:
    """How a job ended whose results are all here; None without proof. Another job's proof in the same folder does not count."""
    row = read_json(str(job.home / END_NAME))
    if not isinstance(row, dict) or row.get("job") != job.id or row.get("state") not in list(JobState):
        return None
    state, note = JobState(row["state"]), row.get("note")
    return Ended(state, None if note is None else str(note), row.get("value")) if state.ended else None


def note_end(ledger: Ledger, job: JobSpec, ended: Ended, now: float) -> None:
    """Write into the ledger how a job ended whose results are here.

    Raises:
        sqlite3.Error, OSError: the ledger can't be written now.
    """
    ledger.job_ended(job.id, ended.state, ended.note, now, ended.value, results=Results.verified)


def settle_proven(ledger: Ledger, launch: str, now: float) -> list[JobRecord]:
    """Write into the ledger how jobs ended that it takes for unfinished; returns those that it refused to take.

    Asked before anything of a launch starts again, and once more at its end.
    """
    refused = []
    for record in ledger.jobs(launch):
        ended = None if record.state.ended else read_proof(record.spec)
        if ended is None:
            continue
        try:
            note_end(ledger, record.spec, ended, now)
        except (sqlite3.Error, OSError) as error:
            log.warning(
                "job %s is %s and its results are in %s, but the ledger could not be written (%s): `python -m launchers attach %s` "
                "writes it down; the job does not run again.",
                record.spec.id, ended.state, record.spec.folder, error, launch,
            )  # fmt: skip
            refused.append(record)
    return refused

"""Jobs in the ledger: one method for each thing that can happen to one."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from launchers.errors import UnknownJob
from launchers.job import JobSpec, JobState, Results
from launchers.ledger.database import Database
from launchers.ledger.records import JobRecord, job_record
from launchers.ledger.transitions import check_job
from launchers.secrecy import scrub

_JOBS = "SELECT *, (SELECT provider FROM machines WHERE machines.label = jobs.machine) AS provider FROM jobs"


class Jobs(Database):
    """Launches and their jobs."""

    # --- launches

    def add_launch(self, launch: str, directory: str, jobs: list[JobSpec], now: float) -> None:
        with self.transaction() as db:
            db.execute("INSERT INTO launches (id, created, directory) VALUES (?, ?, ?)", (launch, now, directory))
            _insert(db, launch, jobs)

    def add_jobs(self, launch: str, jobs: list[JobSpec]) -> None:
        """Jobs that a search decides on while its launch runs."""
        with self.transaction() as db:
            _insert(db, launch, jobs)

    def close_launch(self, launch: str, now: float) -> None:
        with self.transaction() as db:
            db.execute("UPDATE launches SET closed = ? WHERE id = ?", (now, launch))

    def launches(self, only_open: bool = False) -> list[str]:
        where = "WHERE closed IS NULL" if only_open else ""
        return [row["id"] for row in self.rows(f"SELECT id FROM launches {where} ORDER BY created")]

    def began(self, launch: str) -> float | None:
        """When a launch was written down; None where it was only planned."""
        rows = self.rows("SELECT created FROM launches WHERE id = ?", launch)
        return float(rows[0]["created"]) if rows else None

    # --- reading

    def jobs(self, launch: str | None = None) -> list[JobRecord]:
        where, values = ("WHERE launch = ?", (launch,)) if launch else ("", ())
        return [job_record(row) for row in self.rows(f"{_JOBS} {where} ORDER BY launch, number", *values)]

    def open_jobs(self, launch: str) -> list[JobRecord]:
        """Those of a launch that have not ended: what is asked for at every look must not grow with what is done."""
        ended = [state.value for state in JobState if state.ended]
        marks = ", ".join("?" * len(ended))
        query = f"{_JOBS} WHERE launch = ? AND state NOT IN ({marks}) ORDER BY number"
        return [job_record(row) for row in self.rows(query, launch, *ended)]

    def machine_users(self, launch: str) -> dict[str, set[str]]:
        """Machine -> the jobs that it is the last one of."""
        found: dict[str, set[str]] = {}
        for row in self.rows("SELECT id, machine FROM jobs WHERE launch = ? AND machine IS NOT NULL", launch):
            found.setdefault(row["machine"], set()).add(row["id"])
        return found

    def job(self, job: str) -> JobRecord:
        rows = self.rows(f"{_JOBS} WHERE id = ?", job)
        if not rows:
            raise UnknownJob(f"No job matches {job!r}: `python -m launchers ps --all` lists all jobs.")
        return job_record(rows[0])

    # --- what happens to a job

    def job_started(self, job: str, machine: str, log_base: int, now: float) -> None:
        """It is about to be started on a machine."""
        with self.transaction() as db:
            _move(db, job, JobState.running)
            db.execute(
                "UPDATE jobs SET machine = ?, started = ?, log_base = ? WHERE id = ?", (machine, now, log_base, job)
            )

    def job_requeued(self, job: str, machine: str | None = None, lost: bool = True) -> None:
        """It waits for a machine again, or for one that is resumed; `lost`: this counts as one of its restarts."""
        with self.transaction() as db:
            _move(db, job, JobState.waiting)
            db.execute("UPDATE jobs SET machine = ?, restarts = restarts + ? WHERE id = ?", (machine, int(lost), job))

    def job_ended(
        self, job: str, state: JobState, note: str | None, now: float, value: Any = None, leaves: bool = False,
        results: Results | None = None,
    ) -> None:  # fmt: skip
        """For good. `leaves`: its machine is lost, and no longer the one that it is on. `results`: what is here by now."""
        assert state.ended, state
        with self.transaction() as db:
            _move(db, job, state)
            text = scrub(note) if note is not None else None  # may quote an error of others
            db.execute(
                "UPDATE jobs SET note = ?, value = COALESCE(?, value), ended = ? WHERE id = ?",
                (text, None if value is None else json.dumps(value), now, job),
            )
            if results is not None:
                db.execute("UPDATE jobs SET results = ? WHERE id = ?", (results, job))
            if leaves:
                db.execute("UPDATE jobs SET machine = NULL WHERE id = ?", (job,))

    def request_cancel(self, job: str) -> None:
        """The attached client sees this within a few seconds."""
        self._set(job, "cancel", 1)

    def note_results(self, job: str, results: Results) -> None:
        """What of its folder is here."""
        self._set(job, "results", results)

    def note_job(self, job: str, text: str) -> None:
        """A note for the user about a job that has not ended."""
        self._set(job, "note", scrub(text))

    def set_handle(self, job: str, handle: str) -> None:
        """What a serverless provider calls it."""
        self._set(job, "handle", handle)

    def set_spec(self, spec: JobSpec) -> None:
        """Its settings have changed, such as `detach`."""
        self._set(spec.id, "spec", spec.to_json())

    def _set(self, job: str, column: str, value: Any) -> None:
        with self.transaction() as db:
            done = db.execute(f"UPDATE jobs SET {column} = ? WHERE id = ?", (value, job))
            assert done.rowcount == 1, f"the ledger has no job {job}"


def _insert(db: sqlite3.Connection, launch: str, jobs: list[JobSpec]) -> None:
    db.executemany(
        "INSERT INTO jobs (id, launch, number, spec, state, results) VALUES (?, ?, ?, ?, 'waiting', 'none')",
        [(job.id, launch, job.number, job.to_json()) for job in jobs],
    )


def _move(db: sqlite3.Connection, job: str, state: JobState) -> None:
    row = db.execute("SELECT state FROM jobs WHERE id = ?", (job,)).fetchone()
    assert row is not None, f"the ledger has no job {job}"
    check_job(job, JobState(row["state"]), state)
    db.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, job))

"""The journal of intents and states, in SQLite: what was asked for is written before it is asked, each change after it.

One file for all launches of a user, in the user's data folder (`LAUNCHERS_HOME` moves it), readable by its owner only.
Many processes may open it at once. It never holds a secret.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launchers.errors import MendInput, UnknownJob
from launchers.job import Billing, JobSpec, Offer, Outcome, Results, machine_label
from launchers.search import trials
from launchers.secrecy import scrub

SCHEMA_VERSION = 4
_TABLES = """
CREATE TABLE client (id TEXT NOT NULL);
CREATE TABLE launches (id TEXT PRIMARY KEY, created REAL NOT NULL, directory TEXT NOT NULL, closed REAL);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, launch TEXT NOT NULL REFERENCES launches(id), number INTEGER NOT NULL, spec TEXT NOT NULL,
    outcome TEXT NOT NULL, results TEXT NOT NULL, machine TEXT, restarts INTEGER NOT NULL DEFAULT 0, value TEXT, note TEXT,
    started REAL, ended REAL, cost REAL NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0,
    log_base INTEGER NOT NULL DEFAULT 0);
CREATE TABLE machines (
    label TEXT PRIMARY KEY, launch TEXT NOT NULL REFERENCES launches(id), provider TEXT NOT NULL, api_url TEXT,
    instance TEXT, offer TEXT NOT NULL, price REAL NOT NULL, billing TEXT NOT NULL, created REAL NOT NULL, ended REAL,
    host_key TEXT, note TEXT, accounted REAL);
CREATE TABLE events (at REAL NOT NULL, subject TEXT NOT NULL, text TEXT NOT NULL);
"""
_MACHINES = (
    "SELECT *, (SELECT COALESCE(SUM(cost), 0) FROM jobs WHERE jobs.machine = machines.label) AS spent FROM machines"
)
_CHANGES = {
    1: ("ALTER TABLE jobs ADD COLUMN handle TEXT",),
    2: (
        "ALTER TABLE jobs ADD COLUMN seconds REAL NOT NULL DEFAULT 0",
        "ALTER TABLE machines ADD COLUMN deadline REAL",
        "ALTER TABLE machines ADD COLUMN job TEXT",
        "ALTER TABLE machines ADD COLUMN account TEXT",
    ),
    3: trials.SCHEMA,
}
"""From each version to the next."""
SETTLE_S = 900.0
"""How long a create call whose answer was lost may still show up as a machine in the provider's list."""


def launchers_home() -> Path:
    """The folder of the ledger, the launches' ssh keys and the packed working trees; mode 0700.

    Raises:
        MendInput: it belongs to another user, who could read and replace what it holds.
    """
    override = os.environ.get("LAUNCHERS_HOME")
    if override:
        home = Path(override)
    else:
        import platformdirs

        home = Path(platformdirs.user_data_dir("launchers"))
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = home.stat()
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        raise MendInput(
            f"The folder {home} belongs to another user, who could read and replace keys in it: set LAUNCHERS_HOME to one of "
            "yours, such as $(mktemp -d)."
        )
    if status.st_mode & 0o077:
        home.chmod(0o700)
    return home


@dataclass(frozen=True)
class JobRecord:
    spec: JobSpec
    launch: str
    outcome: Outcome
    results: Results
    machine: str | None
    restarts: int
    value: Any
    note: str | None
    started: float | None
    ended: float | None
    cost: float
    cancel: bool
    log_base: int
    """Bytes the local log had when the job came to its present machine."""
    handle: str | None
    """What a serverless provider calls it."""
    seconds: float
    """Machine time that its cost stands for: of all its machines, those that never came up included."""


@dataclass(frozen=True)
class MachineRecord:
    label: str
    launch: str
    provider: str
    api_url: str | None
    instance: str | None
    offer: Offer
    price: float
    billing: Billing
    created: float
    ended: float | None
    host_key: str | None
    note: str | None
    accounted: float | None
    """Until when its cost was put on jobs."""
    deadline: float | None
    """When the client destroys it, whatever it says; seconds since the epoch."""
    job: str | None
    """The job that pays for it now."""
    account: str | None
    """Fingerprint of the key that rented it; no other key is used to ask about it."""
    spent: float
    """What its jobs cost."""

    @property
    def unsettled(self) -> bool:
        """Whether a create call was made whose answer nobody saw: it may be billed under its label."""
        return self.billing is Billing.intended and self.instance is None

    def exposure(self, now: float) -> float:
        """$ so far at worst: one whose create call was never answered counts as billed."""
        return (now - self.created) / 3600 * self.price if self.unsettled else self.cost(now)

    def cost(self, now: float) -> float:
        """$ so far, by the meter; an estimate until the provider's bill."""
        if self.offer.per_job:
            return self.spent
        if self.instance is None:
            return 0.0
        return max((self.ended or now) - self.created, 0.0) / 3600 * self.price


class Ledger:
    """Open it once a process; each method is one transaction, on disk when it returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        if not path.exists():
            path.touch(mode=0o600)
        elif path.stat().st_mode & 0o077:
            path.chmod(0o600)
        try:
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except sqlite3.DatabaseError as error:
            raise MendInput(
                f"The ledger {path} can't be read ({error}): move it away to start a new one, "
                "and look with `python -m launchers reap` for machines that the old one knew."
            ) from None

    @staticmethod
    def open() -> Ledger:
        """The user's ledger."""
        return Ledger(launchers_home() / "ledger.sqlite")

    def close(self) -> None:
        self._db.close()

    def _migrate(self) -> None:
        if self._db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION:
            return
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise MendInput(
                    f"The ledger {self.path} was written by a newer version of launchers ({version} > {SCHEMA_VERSION}): "
                    "update this one, or set LAUNCHERS_HOME to another folder."
                )
            if version == 0:
                for statement in _TABLES.split(";"):
                    if statement.strip():
                        self._db.execute(statement)
                self._db.execute("INSERT INTO client VALUES (?)", (secrets.token_hex(3),))
                version = 1
            for step in range(version, SCHEMA_VERSION):
                for statement in _CHANGES[step]:
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    def transaction(self) -> contextlib.AbstractContextManager[sqlite3.Connection]:
        """For the tables of others, such as the trials of sweeps."""
        return self._transaction()

    @property
    def client(self) -> str:
        """A short random name of this ledger; it is in every label, so that two clients of an account stay apart."""
        return str(self._rows("SELECT id FROM client")[0]["id"])

    # --- launches and jobs

    def add_launch(self, launch: str, directory: str, jobs: list[JobSpec], now: float) -> None:
        with self._transaction() as db:
            db.execute("INSERT INTO launches (id, created, directory) VALUES (?, ?, ?)", (launch, now, directory))
            db.executemany(
                "INSERT INTO jobs (id, launch, number, spec, outcome, results) VALUES (?, ?, ?, ?, 'waiting', 'none')",
                [(job.id, launch, job.number, job.to_json()) for job in jobs],
            )

    def close_launch(self, launch: str, now: float) -> None:
        with self._transaction() as db:
            db.execute("UPDATE launches SET closed = ? WHERE id = ?", (now, launch))

    def launches(self, only_open: bool = False) -> list[str]:
        where = "WHERE closed IS NULL" if only_open else ""
        return [row["id"] for row in self._rows(f"SELECT id FROM launches {where} ORDER BY created")]

    def update_job(self, job: str, **changes: Any) -> None:
        """Set columns of a job; enums and values are stored as text."""
        if "value" in changes:
            changes["value"] = json.dumps(changes["value"])
        self._update("jobs", "id", job, changes)

    def jobs(self, launch: str | None = None) -> list[JobRecord]:
        where, values = ("WHERE launch = ?", (launch,)) if launch else ("", ())
        return [_job(row) for row in self._rows(f"SELECT * FROM jobs {where} ORDER BY launch, number", *values)]

    def job(self, job: str) -> JobRecord:
        rows = self._rows("SELECT * FROM jobs WHERE id = ?", job)
        if not rows:
            raise UnknownJob(f"The ledger knows no job {job!r}: `python -m launchers ps --all` lists those it knows.")
        return _job(rows[0])

    def find(self, name: str) -> list[JobRecord]:
        """The jobs of a launch, or the one job, that `name` means; a unique beginning of an id is enough.

        Raises:
            UnknownJob: none, or several.
        """
        records = self.jobs()
        exact = [r for r in records if name in (r.spec.id, r.launch)]
        if exact:
            return exact
        starting = [r for r in records if r.spec.id.startswith(name)]
        if not starting or len({r.launch for r in starting}) > 1:
            what = "knows no job" if not starting else "knows more than one job that begins with"
            raise UnknownJob(f"The ledger {what} {name!r}: `python -m launchers ps --all` lists those it knows.")
        return starting

    # --- machines

    def intend_machine(
        self, launch: str, api_url: str | None, offers: Sequence[Offer], taken: Container[str], job: str | None, now: float,
        account: str | None = None,
    ) -> MachineRecord | None:  # fmt: skip
        """Reserve the first of `offers` that no machine of this ledger holds, under a label that is in use nowhere.

        One transaction, so that neither threads nor processes take the same offer or label. Written before the create call:
        from here on the label is looked for until it is settled. None when all offers are held.
        """
        with self._transaction() as db:
            held = set()
            for row in db.execute("SELECT provider, api_url, offer FROM machines WHERE billing != 'gone'"):
                held.add((row["provider"], row["api_url"], json.loads(row["offer"])["id"]))
            free = (o for o in offers if o.many or (o.provider, api_url, o.id) not in held)
            offer = next(free, None)
            if offer is None:
                return None
            used = {row["label"] for row in db.execute("SELECT label FROM machines")}
            client = db.execute("SELECT id FROM client").fetchone()["id"]
            labels = (machine_label(client, launch, number) for number in itertools.count())
            label = next(label for label in labels if label not in used and label not in taken)
            db.execute(
                "INSERT INTO machines (label, launch, provider, api_url, offer, price, billing, created, job, account) "
                "VALUES (?, ?, ?, ?, ?, ?, 'intended', ?, ?, ?)",
                (label, launch, offer.provider, api_url, json.dumps(vars(offer)), offer.price, now, job, account),
            )
        return self.machine(label)

    def charge(self, label: str, now: float) -> None:
        """Put what a machine cost since the last time on the job that pays for it."""
        with self._transaction() as db:
            query = "SELECT job, price, COALESCE(accounted, created) AS since FROM machines WHERE label = ?"
            row = db.execute(query, (label,)).fetchone()
            seconds = max(now - row["since"], 0.0)
            db.execute("UPDATE machines SET accounted = ? WHERE label = ?", (max(now, row["since"]), label))
            db.execute(
                "UPDATE jobs SET cost = cost + ?, seconds = seconds + ? WHERE id = ?",
                (seconds / 3600 * row["price"], seconds, row["job"]),
            )

    def exposure(self, launch: str, now: float) -> float:
        """$ that the machines of a launch cost so far, at worst."""
        return sum(machine.exposure(now) for machine in self.machines(launch))

    def update_machine(self, label: str, **changes: Any) -> None:
        self._update("machines", "label", label, changes)

    def machines(self, launch: str | None = None) -> list[MachineRecord]:
        where, values = ("WHERE launch = ?", (launch,)) if launch else ("", ())
        return [_machine(row) for row in self._rows(f"{_MACHINES} {where} ORDER BY created", *values)]

    def machine(self, label: str) -> MachineRecord:
        return _machine(self._rows(f"{_MACHINES} WHERE label = ?", label)[0])

    def _update(self, table: str, key: str, value: str, changes: dict[str, Any]) -> None:
        if isinstance(changes.get("note"), str):
            changes["note"] = scrub(changes["note"])  # may quote an error of others
        names = ", ".join(f"{name} = ?" for name in changes)
        with self._transaction() as db:
            done = db.execute(f"UPDATE {table} SET {names} WHERE {key} = ?", (*changes.values(), value))
            assert done.rowcount == 1, f"{table} has no {value}"

    # --- events

    def note(self, subject: str, text: str, now: float) -> None:
        with self._transaction() as db:
            db.execute("INSERT INTO events VALUES (?, ?, ?)", (now, subject, scrub(text)))

    def events(self, subject: str) -> list[tuple[float, str]]:
        rows = self._rows("SELECT at, text FROM events WHERE subject = ? ORDER BY at, rowid", subject)
        return [(row["at"], row["text"]) for row in rows]


def _job(row: sqlite3.Row) -> JobRecord:
    fields = {name: row[name] for name in row.keys() if name not in ("id", "number")}  # noqa: SIM118
    fields["spec"] = JobSpec.from_json(fields["spec"])
    fields["outcome"], fields["results"] = Outcome(fields["outcome"]), Results(fields["results"])
    fields["value"] = None if fields["value"] is None else json.loads(fields["value"])
    fields["cancel"] = bool(fields["cancel"])
    return JobRecord(**fields)


def _machine(row: sqlite3.Row) -> MachineRecord:
    fields = {name: row[name] for name in row.keys()}  # noqa: SIM118
    fields["offer"], fields["billing"] = Offer(**json.loads(fields["offer"])), Billing(fields["billing"])
    return MachineRecord(**fields)

"""Trials: the jobs of a sweep as the ledger keeps them. They are the one truth; a study is rebuilt from them at each start."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager

SCHEMA = (
    "CREATE TABLE trials (sweep TEXT NOT NULL, number INTEGER NOT NULL, point INTEGER NOT NULL, seed INTEGER, "
    "fingerprint TEXT NOT NULL, code TEXT NOT NULL, data TEXT NOT NULL, params TEXT NOT NULL, state TEXT NOT NULL, "
    "reports TEXT NOT NULL, value REAL, job TEXT, folder TEXT NOT NULL, cost REAL NOT NULL, seconds REAL NOT NULL, note TEXT, "
    "PRIMARY KEY (sweep, number))",
)
"""The ledger's step that adds them."""


class TrialState(StrEnum):
    """How far a trial is."""

    waiting = "waiting"
    running = "running"
    paused = "paused"
    """Saved, its machine freed; resumed if it is among the best of its rung."""
    finished = "finished"
    pruned = "pruned"
    failed = "failed"
    stopped = "stopped"
    """Cancelled, capped, or its machine lost: it continues when the sweep is started again."""

    @property
    def counts(self) -> bool:
        """Whether it has a result that is not paid for again."""
        return self in (TrialState.finished, TrialState.pruned)

    @property
    def ended(self) -> bool:
        """Whether this start of the sweep is done with it."""
        return self in (TrialState.finished, TrialState.pruned, TrialState.failed, TrialState.stopped)


@dataclass(frozen=True)
class Trial:
    """One job of a sweep."""

    sweep: str
    """The sweep's folder, absolute."""
    number: int
    point: int
    """Number of the point it measures; several seeds share one."""
    fingerprint: str
    code: str
    data: str
    params: dict[str, str]
    """Swept key -> value, as text of an override."""
    folder: str
    seed: int | None = None
    state: TrialState = TrialState.waiting
    reports: tuple[tuple[int, float], ...] = ()
    """(step, value) of each validation."""
    value: float | None = None
    job: str | None = None
    cost: float = 0.0
    seconds: float = 0.0
    note: str | None = None

    def with_report(self, step: int, value: float) -> Trial:
        """With one more value; one that was reported before, or comes late, changes nothing."""
        if self.reports and step <= self.reports[-1][0]:
            return self
        return replace(self, reports=(*self.reports, (step, value)))

    def to_row(self) -> dict[str, Any]:
        return asdict(self) | {"state": self.state.value}

    @staticmethod
    def from_row(row: dict[str, Any]) -> Trial:
        reports = tuple((int(step), float(value)) for step, value in row["reports"])
        return Trial(**(row | {"state": TrialState(row["state"]), "reports": reports, "params": dict(row["params"])}))


class Trials(Protocol):
    """Where trials are kept."""

    def of(self, sweep: str) -> list[Trial]:
        """In the order of their numbers."""

    def put(self, trial: Trial) -> None:
        """Write one, on disk when this returns; replaces the one of its number."""

    def drop(self, trial: Trial) -> None: ...


@dataclass
class KeptInMemory:
    """For what needs no memory beyond this process: a single job."""

    kept: dict[tuple[str, int], Trial] = field(default_factory=dict)

    def of(self, sweep: str) -> list[Trial]:
        return sorted((t for t in self.kept.values() if t.sweep == sweep), key=lambda t: t.number)

    def put(self, trial: Trial) -> None:
        self.kept[trial.sweep, trial.number] = trial

    def drop(self, trial: Trial) -> None:
        self.kept.pop((trial.sweep, trial.number), None)


class Database(Protocol):
    """What the ledger offers for a table of others."""

    def transaction(self) -> AbstractContextManager[sqlite3.Connection]: ...


_JSON = ("params", "reports")


class LedgerTrials:
    """In the user's ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, sweep: str) -> list[Trial]:
        with self._database.transaction() as db:
            rows = db.execute("SELECT * FROM trials WHERE sweep = ? ORDER BY number", (sweep,)).fetchall()
        return [
            Trial.from_row({k: json.loads(row[k]) if k in _JSON else row[k] for k in row.keys()})  # noqa: SIM118
            for row in rows
        ]

    def put(self, trial: Trial) -> None:
        row = {k: json.dumps(v) if k in _JSON else v for k, v in trial.to_row().items()}
        names = ", ".join(row)
        with self._database.transaction() as db:
            db.execute(
                f"INSERT OR REPLACE INTO trials ({names}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
            )

    def drop(self, trial: Trial) -> None:
        with self._database.transaction() as db:
            db.execute("DELETE FROM trials WHERE sweep = ? AND number = ?", (trial.sweep, trial.number))

"""The tables, and what leads from each version of them to the next."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable

from launchers.search import trials

SCHEMA_VERSION = 7
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
"""Version 1. Every ledger grows from it by the steps below, so that an old one and a new one are the same."""
_FORMER_SETTINGS = {"ship_keys": "local_paths", "max_capsule_mb": "max_snapshot_mb"}


def create(db: sqlite3.Connection) -> None:
    """The tables of version 1, in an empty file."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("INSERT INTO client VALUES (?)", (secrets.token_hex(3),))


def migrate(db: sqlite3.Connection, version: int) -> None:
    """From `version` to `SCHEMA_VERSION`, one step after the other; within the caller's transaction."""
    for step in range(version, SCHEMA_VERSION):
        for act in _STEPS[step]:
            if callable(act):
                act(db)
            else:
                db.execute(act)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _rename_in_specs(db: sqlite3.Connection) -> None:
    """Jobs that were written before `capsule` became `snapshot`: `attach` and `fetch` read them still."""
    for row in db.execute("SELECT id, spec FROM jobs").fetchall():
        spec = json.loads(row["spec"])
        if "capsule" in spec:
            spec["snapshot"] = spec.pop("capsule")
        settings = spec.get("settings", {})
        for former, name in _FORMER_SETTINGS.items():
            if former in settings:
                settings[name] = settings.pop(former)
        db.execute("UPDATE jobs SET spec = ? WHERE id = ?", (json.dumps(spec), row["id"]))


def _charging_in_offers(db: sqlite3.Connection) -> None:
    """Offers that were written when the one question was whether each job is billed by itself."""
    for row in db.execute("SELECT label, offer FROM machines").fetchall():
        offer = json.loads(row["offer"])
        if offer.pop("per_job", None) is not None and "charging" not in offer:
            offer["charging"] = "job" if json.loads(row["offer"])["per_job"] else "machine"
        db.execute("UPDATE machines SET offer = ? WHERE label = ?", (json.dumps(offer), row["label"]))


_STEPS: dict[int, tuple[str | Callable[[sqlite3.Connection], None], ...]] = {
    1: ("ALTER TABLE jobs ADD COLUMN handle TEXT",),
    2: (
        "ALTER TABLE jobs ADD COLUMN seconds REAL NOT NULL DEFAULT 0",
        "ALTER TABLE machines ADD COLUMN deadline REAL",
        "ALTER TABLE machines ADD COLUMN job TEXT",
        "ALTER TABLE machines ADD COLUMN account TEXT",
    ),
    3: (
        "ALTER TABLE jobs RENAME COLUMN outcome TO state",
        "UPDATE machines SET billing = 'active' WHERE billing = 'billed'",
        "UPDATE machines SET billing = 'unconfirmed' WHERE billing = 'billing'",
        _rename_in_specs,
    ),
    4: trials.SCHEMA,
    5: (_charging_in_offers,),
    6: ("ALTER TABLE machines ADD COLUMN lost REAL",),
}
"""From each version to the next: statements, and functions of the connection."""

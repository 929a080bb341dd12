"""The ledger: jobs, machines, and events."""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Container, Sequence
from typing import Any

from launchers.job import Billing, Charging, Offer, machine_label
from launchers.ledger.home import launchers_home
from launchers.ledger.jobs import Jobs
from launchers.ledger.records import Losses, MachineRecord, machine_record
from launchers.ledger.transitions import check_billing
from launchers.secrecy import scrub

_MACHINES = (
    "SELECT *, (SELECT COALESCE(SUM(cost), 0) FROM jobs WHERE jobs.machine = machines.label) AS spent FROM machines"
)


class Ledger(Jobs):
    """Open it once a process; each method is one transaction, on disk when it returns."""

    @staticmethod
    def open() -> Ledger:
        """The user's ledger."""
        return Ledger(launchers_home() / "ledger.sqlite")

    @property
    def client(self) -> str:
        """A short random name of this ledger; it is in every label, so that two clients of an account stay apart."""
        return str(self.rows("SELECT id FROM client")[0]["id"])

    # --- machines

    def machines(self, launch: str | None = None) -> list[MachineRecord]:
        where, values = ("WHERE launch = ?", (launch,)) if launch else ("", ())
        return [machine_record(row) for row in self.rows(f"{_MACHINES} {where} ORDER BY created", *values)]

    def machine(self, label: str) -> MachineRecord:
        return machine_record(self.rows(f"{_MACHINES} WHERE label = ?", label)[0])

    def losses(self, now: float) -> dict[tuple[str, bool], Losses]:
        """What was seen of each provider's machines, by (provider, whether spot)."""
        found: dict[tuple[str, bool], Losses] = {}
        for machine in self.machines():
            if machine.instance is not None and machine.bills_idle:
                kind = (machine.provider, machine.offer.spot)
                before, hours = found.get(kind, Losses()), max((machine.ended or now) - machine.created, 0.0) / 3600
                found[kind] = Losses(before.hours + hours, before.lost + (machine.lost is not None))
        return found

    def exposure(self, launch: str, now: float) -> float:
        """$ that the machines of a launch cost so far, at worst."""
        return sum(machine.exposure(now) for machine in self.machines(launch))

    def intend_machine(
        self, launch: str, api_url: str | None, offers: Sequence[Offer], taken: Container[str], job: str | None, now: float,
        account: str | None = None,
    ) -> MachineRecord | None:  # fmt: skip
        """Reserve the first of `offers` that no machine of this ledger holds, under a label that is in use nowhere.

        One transaction, so that neither threads nor processes take the same offer or label. Written before the create call:
        from here on the label is looked for until it is settled. None when all offers are reserved.
        """
        with self.transaction() as db:
            reserved = set()
            for row in db.execute("SELECT provider, api_url, offer FROM machines WHERE billing != 'gone'"):
                reserved.add((row["provider"], row["api_url"], json.loads(row["offer"])["id"]))
            free = (o for o in offers if o.many or (o.provider, api_url, o.id) not in reserved)
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

    def machine_created(self, label: str, instance: str) -> None:
        """The provider has answered the create call, or lists the label."""
        with self.transaction() as db:
            _move(db, label, Billing.active)
            db.execute("UPDATE machines SET instance = ? WHERE label = ?", (instance, label))

    def machine_replaced(self, label: str, instance: str) -> None:
        """It was resumed under another id, in another container: its host key is a new one."""
        with self.transaction() as db:
            _move(db, label, Billing.active)
            db.execute("UPDATE machines SET instance = ?, host_key = NULL WHERE label = ?", (instance, label))

    def machine_gone(self, label: str, ended: float) -> None:
        """The provider's own list has confirmed it. What it cost until it ended goes to its job in the same transaction."""
        with self.transaction() as db:
            before = _move(db, label, Billing.gone)
            if before is Billing.gone:
                return
            _charge(db, label, ended)
            db.execute("UPDATE machines SET ended = ? WHERE label = ?", (ended, label))

    def machine_unconfirmed(self, label: str, note: str) -> None:
        """It should be gone and could not be confirmed gone."""
        with self.transaction() as db:
            _move(db, label, Billing.unconfirmed)
            db.execute("UPDATE machines SET note = ? WHERE label = ?", (scrub(note), label))

    def machine_lost(self, label: str, now: float) -> None:
        """The provider took it away from a running job; whether it is gone is another question."""
        self._set_machine(label, "lost", now)

    def set_deadline(self, label: str, job: str, deadline: float) -> None:
        """When the client destroys it, and the job that pays for it until then."""
        self._set_machine(label, "deadline", deadline)
        self._set_machine(label, "job", job)

    def set_price(self, label: str, price: float) -> None:
        """The rate that the provider bills."""
        self._set_machine(label, "price", price)

    def pin_host_key(self, label: str, host_key: str) -> None:
        """Of the first contact: another one is refused from here on."""
        self._set_machine(label, "host_key", host_key)

    def set_account(self, label: str, account: str) -> None:
        """The user says that this key is of the account that rented it."""
        self._set_machine(label, "account", account)

    def charge(self, label: str, now: float, job: str | None = None, ran_s: float | None = None) -> None:
        """The one meter: put what was billed since the last time on the job that pays for it.

        Args:
            job, ran_s: where only running jobs are billed, the job and the seconds it ran so far; less than before counts as
                a late answer.
        """
        with self.transaction() as db:
            _charge(db, label, now, job, ran_s)

    def _set_machine(self, label: str, column: str, value: Any) -> None:
        with self.transaction() as db:
            done = db.execute(f"UPDATE machines SET {column} = ? WHERE label = ?", (value, label))
            assert done.rowcount == 1, f"the ledger has no machine {label}"

    # --- events

    def note(self, subject: str, text: str, now: float) -> None:
        with self.transaction() as db:
            db.execute("INSERT INTO events VALUES (?, ?, ?)", (now, subject, scrub(text)))

    def events(self, subject: str) -> list[tuple[float, str]]:
        rows = self.rows("SELECT at, text FROM events WHERE subject = ? ORDER BY at, rowid", subject)
        return [(row["at"], row["text"]) for row in rows]


def _move(db: sqlite3.Connection, label: str, billing: Billing) -> Billing:
    row = db.execute("SELECT billing FROM machines WHERE label = ?", (label,)).fetchone()
    assert row is not None, f"the ledger has no machine {label}"
    before = Billing(row["billing"])
    check_billing(label, before, billing)
    db.execute("UPDATE machines SET billing = ? WHERE label = ?", (billing, label))
    return before


def _charge(db: sqlite3.Connection, label: str, now: float, job: str | None = None, ran_s: float | None = None) -> None:
    query = "SELECT job, price, offer, instance, COALESCE(accounted, created) AS since FROM machines WHERE label = ?"
    row = db.execute(query, (label,)).fetchone()
    if not Charging(json.loads(row["offer"]).get("charging", Charging.machine)).while_idle:
        if job is not None and ran_s is not None:
            db.execute(
                "UPDATE jobs SET cost = MAX(cost, ?), seconds = MAX(seconds, ?) WHERE id = ?",
                (ran_s / 3600 * row["price"], ran_s, job),
            )
        return
    if row["instance"] is None:
        return  # never created, as far as anybody knows
    seconds = max(now - row["since"], 0.0)
    db.execute("UPDATE machines SET accounted = ? WHERE label = ?", (max(now, row["since"]), label))
    db.execute(
        "UPDATE jobs SET cost = cost + ?, seconds = seconds + ? WHERE id = ?",
        (seconds / 3600 * row["price"], seconds, row["job"]),
    )

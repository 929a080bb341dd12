"""What a rented job is told about its machine, and the bill that is written into the job's folder.

Both are plain JSON for whoever reads them: the job's program (`LAUNCHERS_RENTAL` in its environment) and its report
(`rental.json` beside its results). They name no account, no key and no address.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from launchers.errors import LaunchError
from launchers.ledger import JobRecord, Ledger, MachineRecord
from launchers.remote.files import write_json

log = logging.getLogger("launchers")
VARIABLE = "LAUNCHERS_RENTAL"
FILE = "rental.json"


def rental_environment(job: JobRecord, machine: MachineRecord) -> dict[str, str]:
    """The environment variable that tells a job what it runs on and what it has cost so far."""
    offer = machine.offer
    facts = {
        "provider": machine.provider,
        "price": round(machine.price, 6),
        "gpu": offer.gpu,
        "num_gpus": offer.num_gpus,
        "region": offer.region,
        "spot": offer.spot,
        "restarts": job.restarts,
        "cost": round(job.cost, 6),
    }
    return {VARIABLE: json.dumps(facts)}


def receipt(
    job: JobRecord, users: Mapping[str, set[str]], machines: Iterable[MachineRecord], now: float
) -> dict[str, Any]:
    """The bill of one job.

    Args:
        users: machine -> jobs that it ran; where it ran several, no single job can name its cost.
        machines: all machines of the launch; only those that this job ran on are listed.

    Returns:
        `cost` and `price` in dollars (per hour), `restarts`, and one row per machine in the order rented. A machine that is
        still billed has no `ended`.
    """
    rows: list[dict[str, Any]] = []
    price: float | None = None
    for machine in sorted(machines, key=lambda m: m.created):
        shared_by = users.get(machine.label, set()) | ({machine.job} if machine.job else set())
        if job.spec.id not in shared_by:
            continue
        price = machine.price
        cost: float | None
        begin: float | None
        if not machine.bills_idle:
            cost, begin, end = job.cost, job.started, job.ended
        else:
            begin, end = machine.created, machine.ended
            cost = machine.cost(now) if shared_by == {job.spec.id} else None
        rows.append(
            {
                "provider": machine.provider,
                "gpu": machine.offer.gpu,
                "num_gpus": machine.offer.num_gpus,
                "region": machine.offer.region,
                "spot": machine.offer.spot,
                "price": machine.price,
                "cost": None if cost is None else round(cost, 6),
                "created": begin,
                "ended": end,
            }
        )
    return {"cost": round(job.cost, 6), "price": price, "restarts": job.restarts, "machines": rows}


def try_to_write_bill(ledger: Ledger, job: str, now: float) -> None:
    """Write the bill of a job whose results are here; a local error is logged and delays nothing."""
    try:
        record = ledger.job(job)
        _write(record, ledger.machine_users(record.launch), ledger.machines(record.launch), now)
    except (OSError, sqlite3.Error) as error:
        log.debug("no bill was written: %s", error)


def try_to_write_final_bills(ledger: Ledger, machine: MachineRecord, now: float) -> None:
    """Write the bills of all jobs of a machine that is gone; a local error is logged and delays nothing."""
    try:
        users, machines = ledger.machine_users(machine.launch), ledger.machines(machine.launch)
        for job in users.get(machine.label, set()) | ({machine.job} if machine.job else set()):
            _write(ledger.job(job), users, machines, now)
    except (OSError, sqlite3.Error, LaunchError) as error:
        log.debug("no bill was written: %s", error)


def _write(job: JobRecord, users: Mapping[str, set[str]], machines: Iterable[MachineRecord], now: float) -> None:
    """`rental.json` in the job's folder, if that is here."""
    bill = receipt(job, users, machines, now)
    if bill["machines"] and job.spec.home.is_dir():
        write_json(str(job.spec.home / FILE), bill)

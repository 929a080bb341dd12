"""What a rented job is told about its machine, and the bill that is written into the job's folder.

Both are plain JSON for whoever reads them: the job's program (`LAUNCHERS_RENTAL` in its environment) and its report
(`rental.json` beside its results). They name no account, no key and no address.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


def receipt(job: JobRecord, jobs: Iterable[JobRecord], machines: Iterable[MachineRecord], now: float) -> dict[str, Any]:
    """The bill of one job.

    Args:
        jobs: all jobs of the launch; where several ran on one machine, no single job can name its cost.
        machines: all machines of the launch; only those that this job ran on are listed.

    Returns:
        `cost` and `price` in dollars (per hour), `restarts`, and one row per machine in the order rented. A machine that is
        still billed has no `ended`.
    """
    users: dict[str, set[str]] = {}
    for other in jobs:
        if other.machine is not None:
            users.setdefault(other.machine, set()).add(other.spec.id)
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


def try_to_write_receipts(ledger: Ledger, launch: str, now: float, machine: str) -> None:
    """Write the bills of the jobs of a machine; a local error is logged and delays nothing."""
    try:
        write_receipts(ledger, launch, now, machine)
    except (OSError, sqlite3.Error) as error:
        log.debug("no bill was written: %s", error)


def write_receipts(ledger: Ledger, launch: str, now: float, machine: str | None = None) -> list[Path]:
    """Write `rental.json` into the folder of each job of a launch that is here and ran on a machine; returns the files.

    Args:
        machine: only the jobs that it ran: with all of them each time, a sweep of many jobs would spend its time on bills.

    Safe to call again: once results are downloaded, and again when a machine is confirmed gone, which makes the bill final.
    """
    jobs, machines = ledger.jobs(launch), ledger.machines(launch)
    written = []
    payers = {m.job for m in machines if m.label == machine}
    for job in jobs:
        if machine is not None and job.machine != machine and job.spec.id not in payers:
            continue
        bill = receipt(job, jobs, machines, now)
        if bill["machines"] and job.spec.home.is_dir():
            path = job.spec.home / FILE
            write_json(str(path), bill)
            written.append(path)
    return written

"""ps, attach, fetch, cancel: what a person does with jobs that are in the ledger."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

from launchers.cli.job_tables import job_rows, machine_row, machines_table, ps_table, show_ended, spent_line
from launchers.cli.reopen import context_of, has_client, lease_of, task_of
from launchers.cli.selection import NO_JOBS, find_jobs
from launchers.cli.tables import print_json, print_lines, show
from launchers.errors import LaunchError, MendInput, StillBilled
from launchers.formats import count, short_id, size
from launchers.job import Billing, JobState
from launchers.ledger import JobRecord, Ledger, launchers_home
from launchers.lifecycle.attach import attach as attach_to
from launchers.lifecycle.opening import close_if_done
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.stops import counted_stops
from launchers.storage import StoredResults
from launchers.transport import sync


def ps(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    now = time.time()
    open_launches = set(ledger.launches(only_open=True))
    all_jobs, all_machines = ledger.jobs(), ledger.machines()
    jobs = [r for r in all_jobs if options.all or r.launch in open_launches]
    machines = [m for m in all_machines if options.all or m.billing is not Billing.gone]
    if options.json:
        print_json([{"jobs": job_rows(jobs, machines, now), "machines": [machine_row(m, now) for m in machines]}])
        return 0
    if not all_jobs and not machines:
        print(NO_JOBS)
        return 0
    if jobs:
        show(ps_table(jobs, machines, now))
    else:
        print(f"No job runs or waits; `python -m launchers ps --all` also lists the {len(all_jobs)} that ended.")
    if machines:
        show(machines_table(machines, now))
    print_lines([*_abandoned(jobs), spent_line(all_machines, all_jobs, now)])
    return 0


def _abandoned(jobs: list[JobRecord]) -> list[str]:
    """How to reconnect to launches without a client."""
    launches = dict.fromkeys(record.launch for record in jobs if not record.state.ended)
    return [
        f"No client is attached to {short_id(launch)}; reconnect with `python -m launchers attach {short_id(launch)}`."
        for launch in launches
        if not has_client(launch)
    ]


def attach(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    launch = find_jobs(ledger, options.job)[0].launch
    return take_up(ledger, launch, options.json)


def take_up(ledger: Ledger, launch: str, as_json: bool) -> int:
    """Finish a launch: exit code 0 when all its jobs finished, 1 when one did not, 3 when something may still be billed."""
    still: list[StillBilled] = []
    with claimed(launchers_home(), launch):
        records = ledger.jobs(launch)
        tasks = [task_of(ledger, record) for record in records if not record.state.ended]
        if tasks or any(m.billing is not Billing.gone for m in ledger.machines(launch)):
            context = tasks[0].context if tasks else context_of(ledger, records[0])
            machines, several = records[0].spec.settings["machines"], len(records) > 1
            with counted_stops() as stops:
                try:
                    still = attach_to(context, tasks, machines, several, stops)
                finally:
                    close_if_done(ledger, launch)
    records = ledger.jobs(launch)
    try:
        show_ended(records, time.time(), as_json)
    finally:  # nothing that the table runs into may cost this message
        if still:
            raise still[0]
    return 0 if all(record.state is JobState.finished for record in records) else 1


def fetch(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    rows: list[dict[str, Any]] = []
    refused: list[MendInput] = []
    for record in find_jobs(ledger, options.job):
        try:
            rows.append(_fetched(ledger, record))
        except MendInput as problem:  # of several jobs, those that are on no machine have nothing to download
            refused.append(problem)
            continue
        if not options.json:
            row = rows[-1]
            got = f"{count(row['files'], 'file')}, {size(row['MB'] * 1e6)}" if row["files"] else "nothing new"
            print_lines([f"{short_id(record.spec.id)}: downloaded {got} to {record.spec.folder}"])
    if not rows:
        raise refused[0]
    for text in map(str, refused):
        print(text, file=sys.stderr)
    if options.json:
        print_json(rows)
    return 0


def _fetched(ledger: Ledger, record: JobRecord) -> dict[str, Any]:
    """
    Raises:
        MendInput: the job is on no machine, or a client is attached and downloads its results.
    """
    with claimed(launchers_home(), record.launch):
        try:
            lease = lease_of(ledger, record)
        except LaunchError:
            if record.spec.settings.get("storage") is None:
                raise
            stored = StoredResults(str(record.spec.settings["storage"]))
            report = sync.pull(stored, record.spec) if stored.is_newer(record.spec) else sync.Pulled()
        else:
            report = sync.pull(lease.store, record.spec)
            lease.link.close()
        sync.say_refused(report, record.spec)
    return {"job": record.spec.id, "files": report.files, "MB": report.bytes / 1e6, "folder": record.spec.folder}


def cancel(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    records = find_jobs(ledger, options.job)
    live = [record for record in records if not record.state.ended]
    if not live:
        raise MendInput(
            f"Job {short_id(records[0].spec.id)} has ended already ({records[0].state.value}): nothing to cancel."
        )
    if all(record.cancel for record in live):
        raise MendInput(
            f"Job {short_id(live[0].spec.id)} is being cancelled already: `python -m launchers ps` shows its progress."
        )
    for record in live:
        ledger.request_cancel(record.spec.id)
    try:
        take_up(ledger, live[0].launch, options.json)
    except MendInput:
        if not has_client(live[0].launch):
            raise
        told = [ledger.job(record.spec.id) for record in live]
        if options.json:
            print_json(job_rows(told, (), time.time()))
        else:
            print(
                f"Told the client that is attached to {short_id(live[0].launch)}: it lets the job save, downloads the results "
                "and ends it."
            )
    return 0

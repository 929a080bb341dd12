"""ps, logs, attach, fetch, cancel: what a person does with jobs that a launch left in the ledger."""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

from launchers.capacity.base import Lease
from launchers.cli.tables import Sheet, jobs_table, show, show_ended
from launchers.errors import MendInput, StillBilled
from launchers.job import Billing, JobState
from launchers.launcher import close_if_done, open_context
from launchers.ledger import JobRecord, Ledger, MachineRecord, launchers_home
from launchers.lifecycle.attach import attach as attach_to
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.stops import counted_stops
from launchers.lifecycle.task import Task
from launchers.providers import descriptor
from launchers.settings import Timing, typed
from launchers.snapshot import load
from launchers.transport import sync
from launchers.transport.logs import Console, LineCutter, LogMirror, LogStream
from launchers.transport.names import LOG_NAME


def ps(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    now = time.time()
    open_launches = set(ledger.launches(only_open=True))
    jobs = [r for r in ledger.jobs() if options.all or r.launch in open_launches]
    machines = [m for m in ledger.machines() if options.all or m.billing is not Billing.gone]
    rows = [machine_row(m, now) for m in machines]
    if options.json:
        sheet = jobs_table(jobs, now)
        show(Sheet("", (), [{"jobs": sheet.rows, "machines": rows}]), as_json=True)
        return 0
    show(jobs_table(jobs, now))
    show(Sheet("Machines", MACHINE_COLUMNS, rows, right=frozenset({"$/h", "minutes", "$"})))
    return 0


MACHINE_COLUMNS = ("machine", "provider", "instance", "card", "billing", "$/h", "minutes", "$", "note")


def machine_row(machine: MachineRecord, now: float) -> dict[str, object]:
    return {
        "machine": machine.label, "provider": machine.provider, "instance": machine.instance, "card": machine.offer.gpu,
        "billing": machine.billing.value, "$/h": machine.price, "minutes": ((machine.ended or now) - machine.created) / 60,
        "$": machine.cost(now), "note": machine.note,
    }  # fmt: skip


def logs(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    record = _one(ledger, options.job)
    path = record.spec.home / LOG_NAME
    shown = _print_from(path, 0)
    if not options.follow and record.state is JobState.running:
        with contextlib.suppress(MendInput):  # a living client keeps the local log up to date
            _catch_up(ledger, record)
    while options.follow and not ledger.job(record.spec.id).state.ended:
        try:
            with claimed(launchers_home(), record.launch):
                # Nobody else keeps the local log growing.
                lease = _rented(ledger, record)
                mirror = LogMirror(record.spec, record.log_base, there=record.spec.output_there)
                context = _context(ledger, record)
                stream = LogStream(lease.runner, record.spec, mirror, context.clock, context.timing.retry_first)
                while lease.runner.job_status(record.spec)["state"] == "running":
                    time.sleep(context.timing.status)
                stream.drained(30)
                stream.finish()
                lease.link.close()
                return 0
        except MendInput:
            shown = _print_from(path, shown)
            time.sleep(0.5)
    return 0


def _catch_up(ledger: Ledger, record: JobRecord) -> None:
    """Bring and show what the log of a job without a client holds by now."""
    with claimed(launchers_home(), record.launch):
        lease = _rented(ledger, record)
        mirror = LogMirror(record.spec, record.log_base)
        size = lease.runner.job_status(record.spec).get("log_size", 0)
        if mirror.offset < size:
            for chunk in lease.runner.follow(record.spec, mirror.offset):
                mirror.feed(chunk)
                if mirror.offset >= size:
                    break
        mirror.close()
        lease.link.close()


def _print_from(path: Path, offset: int) -> int:
    """Show what a log has got since, as `LogMirror` would; returns how far that is."""
    if not path.exists():
        return offset
    console, cutter = Console(), LineCutter()
    with path.open("rb") as file:
        # Shorter than before: its middle was dropped.
        file.seek(min(offset, path.stat().st_size))
        while chunk := file.read(1 << 16):
            console.show(list(cutter.lines(chunk)))
        console.show(list(cutter.rest()))
        return file.tell()


def attach(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    launch = ledger.find(options.job)[0].launch
    return take_up(ledger, launch, options.json)


def take_up(ledger: Ledger, launch: str, as_json: bool) -> int:
    """Finish a launch: exit code 0 when all its jobs finished, 1 when one did not, 3 when something may still be billed."""
    still: list[StillBilled] = []
    with claimed(launchers_home(), launch):
        records = ledger.jobs(launch)
        tasks = [_task(ledger, record) for record in records if not record.state.ended]
        if tasks or any(m.billing is not Billing.gone for m in ledger.machines(launch)):
            context = tasks[0].context if tasks else _context(ledger, records[0])
            machines, several = records[0].spec.settings["machines"], len(records) > 1
            with counted_stops() as stops:
                try:
                    still = attach_to(context, tasks, machines, several, stops)
                finally:
                    close_if_done(ledger, launch)
    records = ledger.jobs(launch)
    show_ended(records, time.time(), as_json)
    if still:
        raise still[0]
    return 0 if all(record.state is JobState.finished for record in records) else 1


def fetch(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    rows = []
    for record in ledger.find(options.job):
        with claimed(launchers_home(), record.launch):
            lease = _rented(ledger, record)
            report = sync.pull(lease.store, record.spec)
            sync.say_refused(report, record.spec)
            lease.link.close()
        rows.append(
            {"job": record.spec.id, "files": report.files, "MB": report.bytes / 1e6, "folder": record.spec.folder}
        )
    show(Sheet("Fetched", ("job", "files", "MB", "folder"), rows), options.json)
    return 0


def cancel(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    records = ledger.find(options.job)
    live = [record for record in records if not record.state.ended]
    if not live:
        raise MendInput(f"Job {records[0].spec.id} has ended already ({records[0].state.value}): nothing to cancel.")
    if all(record.cancel for record in live):
        raise MendInput(
            f"Job {live[0].spec.id} is being cancelled already: `python -m launchers ps` shows how far it is."
        )
    for record in live:
        ledger.request_cancel(record.spec.id)
    try:
        take_up(ledger, live[0].launch, options.json)
    except MendInput:
        print(f"Told the client that attends to {live[0].launch}: it ends the job and brings the results home.")
    return 0


def _one(ledger: Ledger, name: str) -> JobRecord:
    records = ledger.find(name)
    if len(records) > 1:
        raise MendInput(f"{name} has {len(records)} jobs: name one, such as {records[0].spec.id}.")
    return records[0]


def _context(ledger: Ledger, record: JobRecord) -> LaunchContext:
    settings = typed(descriptor(record.spec.settings["name"]).settings, record.spec.settings, "provider")
    timing = typed(Timing, record.spec.timing, "timing")
    return open_context(record.launch, settings, timing, launchers_home(), ledger)


def _task(ledger: Ledger, record: JobRecord) -> Task:
    return Task(record.spec, _context(ledger, record), load(record.spec.snapshot, launchers_home()))


def _rented(ledger: Ledger, record: JobRecord) -> Lease:
    """The machine that a job is on.

    Raises:
        MendInput: it is on none.
    """
    context = _context(ledger, record)
    machine = ledger.machine(record.machine) if record.machine else None
    return context.capacity.reach(context, machine, record)

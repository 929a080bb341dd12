"""logs: what a job has printed, from the local file and, where no client keeps it up to date, from the job's machine."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from typing import TextIO

from launchers.cli.reopen import context_of, lease_of
from launchers.cli.selection import find_jobs
from launchers.cli.tables import print_json
from launchers.errors import MendInput
from launchers.formats import short_id
from launchers.job import JobState
from launchers.ledger import JobRecord, Ledger, launchers_home
from launchers.lifecycle.reconnect import claimed
from launchers.text import shown
from launchers.transport.logs import Console, LineCutter, LogMirror, LogStream
from launchers.transport.names import LOG_NAME

LOOK_EVERY_S = 0.5


def logs(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    records = find_jobs(ledger, options.job)
    if options.follow:
        records = [_to_follow(records)]
    out = _Nowhere() if options.json else sys.stdout
    codes = []
    for record in records:
        if len(records) > 1 and not options.json:
            print(f"== {short_id(record.spec.id)}", flush=True)
        shown_to = _print_from(record, 0, out)
        codes.append(_follow(ledger, record, shown_to, out) if options.follow else _catch_up(ledger, record, out))
    if options.json:
        print_json([_row(ledger.job(record.spec.id)) for record in records])
    return max(codes)


def _row(record: JobRecord) -> dict[str, object]:
    path = record.spec.home / LOG_NAME
    lines = shown(path.read_text(errors="replace")).splitlines() if path.exists() else []
    return {"job": record.spec.id, "state": record.state.value, "log": str(path), "lines": lines}


class _Nowhere(io.StringIO):
    """Discards text: the lines are in the JSON."""

    def write(self, text: str) -> int:
        return len(text)


def _to_follow(records: list[JobRecord]) -> JobRecord:
    """
    Raises:
        MendInput: several jobs of a launch run.
    """
    running = [record for record in records if record.state is JobState.running] or records
    if len(running) > 1:
        ids = ", ".join(short_id(record.spec.id) for record in running[:8])
        raise MendInput(f"Launch {short_id(records[0].launch)} has {len(running)} jobs: follow one of {ids}.")
    return running[0]


def _follow(ledger: Ledger, record: JobRecord, shown_to: int, out: TextIO) -> int:
    """Show what comes until the job ends; the first Ctrl-C leaves it."""
    try:
        while not ledger.job(record.spec.id).state.ended:
            with contextlib.ExitStack() as claim:
                try:
                    claim.enter_context(claimed(launchers_home(), record.launch))
                except MendInput:  # a client is attached, and keeps the local file growing
                    shown_to = _print_from(record, shown_to, out)
                    time.sleep(LOOK_EVERY_S)
                    continue
                return _stream(ledger, ledger.job(record.spec.id), out)
        _print_from(record, shown_to, out)
    except KeyboardInterrupt:
        print(f"Stopped following the log; the job is not affected. {_come_back(record)}", file=sys.stderr)
        return 130
    return 0


def _stream(ledger: Ledger, record: JobRecord, out: TextIO) -> int:
    """The log of a job without a client, from its machine."""
    if record.state.ended:
        return 0
    try:
        lease = lease_of(ledger, record)
    except MendInput as error:
        print(f"No client is attached, so the log does not grow. {error} {_come_back(record)}", file=sys.stderr)
        return 1
    context = context_of(ledger, record).at(lease.record.provider)
    there = record.spec.output_below(context.settings.remote_root)
    mirror = LogMirror(record.spec, record.log_base, there=there, console=out)
    stream = LogStream(lease.runner, record.spec, mirror, context.clock, context.timing.retry_first)
    while lease.runner.job_status(record.spec)["state"] == "running" and mirror.is_watched:
        time.sleep(context.timing.status)
    stream.drained(30)
    stream.finish()
    lease.link.close()
    _end_unwatched(mirror)
    print(f"The job has ended; its results are still on its machine. {_come_back(record)}", file=sys.stderr)
    return 0


def _come_back(record: JobRecord) -> str:
    return f"Reconnect with `python -m launchers attach {short_id(record.launch)}`."


def _catch_up(ledger: Ledger, record: JobRecord, out: TextIO) -> int:
    """Download and show what the log of a job without a client holds by now."""
    if record.state is not JobState.running:
        return 0
    with contextlib.suppress(MendInput), claimed(launchers_home(), record.launch):
        lease = lease_of(ledger, record)
        mirror = LogMirror(record.spec, record.log_base, console=out)
        size = lease.runner.job_status(record.spec).get("log_size", 0)
        if mirror.offset < size:
            for chunk in lease.runner.follow(record.spec, mirror.offset):
                mirror.feed(chunk)
                if mirror.offset >= size:
                    break
        mirror.close()
        lease.link.close()
        _end_unwatched(mirror)
    return 0


def _end_unwatched(mirror: LogMirror) -> None:
    """The log is shown for a reader's sake: without one the command ends.

    Raises:
        BrokenPipeError: the reader has left.
    """
    if not mirror.is_watched:
        raise BrokenPipeError


def _print_from(record: JobRecord, offset: int, out: TextIO) -> int:
    """Show what a log has got since, as `LogMirror` would; returns how far that is."""
    path = record.spec.home / LOG_NAME
    if not path.exists():
        return offset
    console, cutter = Console(out), LineCutter()
    with path.open("rb") as file:
        # Shorter than before: its middle was dropped.
        file.seek(min(offset, path.stat().st_size))
        while chunk := file.read(1 << 16):
            console.show(list(cutter.lines(chunk)))
        console.show(list(cutter.rest()))
        return file.tell()

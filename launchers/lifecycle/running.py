"""One job in one lease: uploaded, started, followed, stopped at its caps, downloaded. Safe to start over at any point."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from launchers.capacity.base import Lease
from launchers.errors import BadMachine, Capped, LaunchError, RetryLater, Unreachable
from launchers.host import JobStatus
from launchers.job import JobSpec, JobState, Results
from launchers.lifecycle.after_error import Act, Detached, Facts, Stage, after_error
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.deadlines import CANCELLED, MAX_COST, MAX_HOURS, MAX_TOTAL_COST, Phase, is_over_total
from launchers.lifecycle.ended import Ended, write_proof
from launchers.lifecycle.receipt import rental_environment, try_to_write_bill
from launchers.planning import reserve
from launchers.secrecy import scrub
from launchers.snapshot import Snapshot
from launchers.transport import sync
from launchers.transport.logs import LogMirror, LogStream
from launchers.transport.names import LOG_NAME

log = logging.getLogger("launchers")
LOG_SILENCE_S = 60.0
"""Without a byte of the log of a job that has ended, after which the rest of it is given up."""
PRUNED = "pruned"
LOW_DISK_GB = 0.2
QUEUED_WORD_S = 60.0


@dataclass(frozen=True)
class Search:
    """What a job of a search tells it while it runs, and when it should save and end."""

    report: Callable[[int, float], bool]
    """Takes a (step, value), those before a move to another machine once more; true: the job is pruned."""
    why_stop: Callable[[], str | None]


def run_job(
    context: LaunchContext, lease: Lease, job: JobSpec, snapshot: Snapshot, prefix: str, search: Search | None = None
) -> Ended:
    """Bring the job to the machine unless it is there, follow it to its end, and download its results.

    Args:
        search: that the job is of, if any.

    Raises:
        Preempted, BadMachine: the machine is lost; what was synced is here.
        Detached: the settings ask to leave a running job alone.
        Capped, Cancelled: its time was over before the machine was done. A stop in good time raises nothing: it asks the job
            to save its state and then ends it like any other.
    """
    lease.guard.cut = lease.link.cut
    is_known_there = context.ledger.job(job.id).machine == lease.record.label
    found: JobStatus = {"state": "absent"}
    if is_known_there:
        found = _reach(context, lease, lambda: lease.runner.job_status(job))
    lease.guard.phase = Phase.running if is_known_there and found["state"] != "absent" else Phase.setup
    if found["state"] in ("absent", "lost"):
        _begin(context, lease, job, snapshot, found)
    if (context.settings.detach or context.leaving.is_set()) and not context.stopping.is_set():
        raise Detached
    record = context.ledger.job(job.id)
    mirror = LogMirror(job, record.log_base, prefix, job.output_below(context.settings.remote_root))
    mirror.is_watched = search is None  # the console of a sweep is its table; its jobs' output is in their logs
    stream = LogStream(lease.runner, job, mirror, context.clock, context.timing.retry_first)
    try:
        status = _follow(context, lease, job, stream, search)
        drain = partial(_drain, context, lease, job, mirror, stream, status)
        stream.drained(context.timing.status)  # so that it is on the console before what is made of it
        if status["state"] == "lost":
            raise BadMachine(f"the supervisor of job {job.id} died on the machine")
        lease.guard.phase = Phase.fetching
        ended = _download(context, lease, job, _judge(context, job, status), drain)
    finally:
        stream.stop()
    lease.guard.asked = None  # what this job was asked is nothing to the next one
    lease.guard.phase = Phase.idle
    return ended


def _begin(context: LaunchContext, lease: Lease, job: JobSpec, snapshot: Snapshot, found: JobStatus) -> None:
    """Working tree, environment and newest fetched state there, then the job started."""
    runner = lease.runner
    if found["state"] == "lost":
        # The machine kept its disk: what it wrote last is newer than what was fetched.
        early_pull(context, lease, job)
    uploaded = _reach(context, lease, lambda: runner.upload(snapshot))
    if uploaded:
        context.say(job.id, f"uploaded {uploaded / 1e6:.1f} MB of {snapshot.size / 1e6:.1f} MB of source")
    settings = context.settings
    python = _reach(context, lease, lambda: runner.prepare(snapshot, settings.python, settings.apt, settings.provided))
    fetched = sync.held(job)
    if fetched:
        _reach(context, lease, lambda: lease.store.restore(job, job.home, fetched))
        context.say(job.id, f"resumes from {len(fetched)} downloaded files")
    mirror = LogMirror(job, 0)
    # A machine that kept its disk goes on in its old log, most of which is here.
    known = context.ledger.job(job.id)
    length = mirror.length
    here = min(length - known.log_base, found.get("log_size", 0)) if known.machine == lease.record.label else 0
    context.ledger.job_started(job.id, lease.record.label, length - here, context.clock.now())
    lease.guard.check()
    lease.guard.phase = Phase.running
    secrets = {name: os.environ[name] for name in context.settings.pass_environment if os.environ.get(name)}
    facts = rental_environment(context.ledger.job(job.id), lease.record)
    _reach(context, lease, lambda: runner.start(job, python, snapshot, secrets, facts, context.timing.grace))


def _reach(context: LaunchContext, lease: Lease, act: Callable[[], Any]) -> Any:
    """`act()`, repeated over broken connections for as long as the provider says that the machine runs.

    Raises:
        Preempted: it does not run any more.
        BadMachine: it runs, and stayed silent too long.
        Capped, Cancelled: its time is over.
        Detached: there is no machine to give up, and the job needs no client.
    """
    end: float | None = None
    pause = context.timing.retry_first
    told = False
    guard = lease.guard
    while True:
        guard.check()
        try:
            return act()
        except LaunchError as error:
            guard.check()
            facts = Facts(Stage.calling, phase=guard.phase, keeps_jobs=context.capacity.keeps_jobs)
            if after_error(error, facts, context.settings).act is Act.pass_on:
                raise
            now = context.clock.now()
            doubt = context.capacity.doubt(context, lease)
            # Silence counts while somebody vouches that the machine runs: without a word of the provider, it may be us.
            end = end or now + context.timing.unreachable if doubt is None else None
            if doubt is not None and not told:
                told = True
                text = f"{str(error).rstrip('.')}, and {doubt}: retrying until the machine's deadline; the job keeps running"
                context.say(job_of(context, lease), text, logging.WARNING)
            facts = replace(facts, is_silence_over=end is not None and now >= end)
            then = after_error(error, facts, context.settings).act
            if then is Act.detach:
                context.say(
                    context.launch,
                    f"{str(error).rstrip('.')}: the jobs keep running without this client. Reconnect with "
                    f"`python -m launchers attach {context.launch}`.",
                    logging.WARNING,
                )
                raise Detached from None
            if then is Act.lose:
                raise BadMachine(
                    f"it runs but did not answer for {context.timing.unreachable:.0f} s ({error})"
                ) from None
            _pause(context, lease, pause)
            pause = min(pause * 2, context.timing.poll)


def job_of(context: LaunchContext, lease: Lease) -> str:
    """What a message about a machine is about: the job it runs."""
    return context.ledger.machine(lease.record.label).job or lease.record.label


def _pause(context: LaunchContext, lease: Lease, seconds: float) -> None:
    """Sleep, but not beyond the machine's deadline."""
    end = context.clock.now() + seconds
    while (left := end - context.clock.now()) > 0:
        lease.guard.check()
        context.clock.sleep(min(left, 0.5))


def _follow(context: LaunchContext, lease: Lease, job: JobSpec, stream: LogStream, search: Search | None) -> JobStatus:
    """Watch the job until it has ended; fetch what is new, stop it when a cap is reached or the user says so."""
    next_pull = context.clock.now() + context.settings.sync_every_s
    next_word = context.clock.now() + QUEUED_WORD_S
    stopped: float | None = None
    asked: str | None = None
    pruned, offset = False, 0
    while True:
        status: JobStatus = _reach(context, lease, lambda: lease.runner.job_status(job))
        context.capacity.charge(context, lease, job, status)
        if status["state"] != "running":
            return status
        if context.leaving.is_set():
            raise Detached
        if status.get("queued") and context.clock.now() >= next_word:
            context.say(job.id, "queued: waiting for a free GPU")
            next_word = context.clock.now() + QUEUED_WORD_S
        reason = _reason_to_stop(context, job)
        if search is not None and stopped is None:
            reason = reason or search.why_stop()
            lines = _reach(context, lease, partial(lease.runner.reports, job, offset))
            offset += sum(len(line) + 1 for line in lines)
            answers = [search.report(*row) for line in lines if (row := report_of(line)) is not None]
            pruned = pruned or any(answers)
        asked = reason = reason or asked or (PRUNED if pruned else None)
        if reason and stopped is None:
            stopped = context.clock.now()
            if not context.capacity.keeps_jobs:
                lease.guard.ask(stopped, reason)
            context.say(job.id, f"stopping ({reason}): waiting for the job to save a checkpoint")
            _reach(context, lease, partial(lease.runner.stop, job, reason))
        if reason and stopped is not None and context.capacity.keeps_jobs:
            if context.clock.now() >= stopped + reserve(context.timing):
                raise Capped(f"{reason}; the job did not end when it was asked to")
        elif context.clock.now() >= next_pull and stopped is None:
            early_pull(context, lease, job)
            next_pull = context.clock.now() + context.settings.sync_every_s
        stream.wait(context.timing.status)  # the end of the log is the end of the job: no need to sleep over it


def report_of(line: str) -> tuple[int, float] | None:
    """Step and value of a line of `reports.jsonl`; None where it is no report: it was written by the job, not by us."""
    try:
        row = json.loads(line)
        step, value = row["step"], row["value"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    is_step = isinstance(step, int) and not isinstance(step, bool) and 0 <= step < 1 << 53
    is_value = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (step, float(value)) if is_step and is_value and abs(value) < 1e300 else None


def _drain(
    context: LaunchContext, lease: Lease, job: JobSpec, mirror: LogMirror, stream: LogStream, status: JobStatus
) -> str | None:
    """Wait for the rest of the log of a job that has ended, for as long as it comes; says how much of it did not."""
    size, here, heard = status.get("log_size", 0), mirror.offset, context.clock.now()
    try:
        while not stream.drained(context.timing.status):
            _reach(context, lease, lambda: lease.runner.job_status(job))
            now, before, here = context.clock.now(), here, mirror.offset
            if here != before:
                heard = now
            elif now >= heard + LOG_SILENCE_S:
                break
    except (LaunchError, Detached) as error:
        # The machine is lost or its time is over. The results are here: nothing runs again for the sake of a log.
        log.debug("the rest of the log of %s was not waited for: %s", job.id, error)
    stream.finish()
    missing = mirror.missing(size)
    if not missing:
        return None
    text = f"{missing:,} of {size:,} bytes of its log did not arrive"
    context.say(job.id, f"{text}: {job.home / LOG_NAME} ends early", logging.WARNING)
    return text


def early_pull(context: LaunchContext, lease: Lease, job: JobSpec) -> None:
    """Fetch what must survive the machine; trouble here is met again, and handled, by the next look at the job."""
    lease.guard.phase = Phase.syncing
    try:
        report = sync.pull(lease.store, job, context.settings.sync_early)
    except Unreachable:
        return
    except OSError as error:
        text = f"intermediate results could not be written here ({error}); they are on the machine, and the next sync tries again"
        context.say(job.id, text, logging.WARNING)
        return
    finally:
        lease.guard.phase = Phase.running
    if report.files:
        context.ledger.note_results(job.id, Results.partial)


def _reason_to_stop(context: LaunchContext, job: JobSpec) -> str | None:
    record = context.ledger.job(job.id)
    settings = context.settings
    if record.cancel or context.stopping.is_set():
        return CANCELLED
    if settings.max_cost is not None and record.cost >= settings.max_cost:
        return MAX_COST
    if record.seconds >= settings.max_hours * 3600:
        return MAX_HOURS
    return MAX_TOTAL_COST if is_over_total(context) else None


def _download(
    context: LaunchContext, lease: Lease, job: JobSpec, ended: Ended, drain: Callable[[], str | None]
) -> Ended:
    """Everything, verified, then the rest of the log, before anyone may end the machine; then the proof of it, before anything else
    that may fail.

    Args:
        drain: waits for the log, and says what is missing of it.
    """
    for _ in range(3):
        try:
            _reach(context, lease, lambda: sync.pull_all(lease.store, job))
            break
        except RetryLater as error:
            problem = error
    else:
        raise BadMachine(f"the results of job {job.id} could not be downloaded: {problem}")
    short = drain()
    if short is not None:
        ended = replace(ended, note="; ".join(part for part in (ended.note, short) if part))
    sync.finish(job)
    write_proof(job, ended)
    try:
        context.capacity.charge(context, lease, job)
        context.ledger.note_results(job.id, Results.verified)
        try_to_write_bill(context.ledger, job.id, context.clock.now())
        _reach(context, lease, lambda: lease.store.discard(job))
    except (LaunchError, Detached, sqlite3.Error, OSError) as error:
        # The job is done here, whatever became of its machine or of the ledger since.
        log.debug("after the results of %s were downloaded: %s", job.id, error)
    return ended


def _judge(context: LaunchContext, job: JobSpec, status: JobStatus) -> Ended:
    """Exit code and reason in our words."""
    code, stopped = status.get("exit_code"), status.get("stopped")
    if stopped == PRUNED:
        return Ended(JobState.pruned, "pruned: other jobs of the search do better", status.get("value"))
    if stopped == CANCELLED:
        return Ended(JobState.cancelled, "cancelled by the user", status.get("value"))
    if stopped:
        return Ended(JobState.capped, stopped, status.get("value"))
    if code == 0:
        return Ended(JobState.finished, None, status.get("value"))
    if status.get("disk_free_gb", 1.0) < LOW_DISK_GB:
        why = "the machine's disk is full: raise provider.disk_gb"
    elif code in (-9, 137):
        why = "it was killed, most likely for lack of memory"
    elif status.get("why"):
        why = scrub(str(status["why"])).rstrip(".")
    else:
        why = f"exit code {code}"
    context.say(job.id, f"failed: {why}", logging.ERROR)
    return Ended(JobState.failed, f"{why}; its log is {job.home / 'remote.log'}", None)

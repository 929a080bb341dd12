"""One job on one machine: there, started, followed, stopped at its caps, and home. Safe to begin again at any point."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from launchers.capsule import Capsule
from launchers.errors import BadMachine, Preempted, RetryLater, Unreachable
from launchers.job import JobSpec, MachineState, Outcome, Results
from launchers.lifecycle.office import Office
from launchers.lifecycle.rental import Rented, balance_of
from launchers.providers.base import SpotBidding
from launchers.transport import sync
from launchers.transport.logs import LogMirror, LogStream

LOG_DRAIN_S = 60.0
LOW_DISK_GB = 0.2
QUEUED_WORD_S = 60.0


@dataclass(frozen=True)
class Ended:
    """How a job ended on its machine."""

    outcome: Outcome
    note: str | None
    value: Any


class Detached(Exception):
    """The job runs, and this client need not stay."""


def run_job(office: Office, rented: Rented, job: JobSpec, capsule: Capsule, prefix: str) -> Ended:
    """Bring the job to the machine unless it is there, follow it to its end, and bring its results home.

    Raises:
        Preempted, BadMachine: the machine is lost; what was synced is here.
        Detached: the settings ask to leave a running job alone.
        Cancelled is not raised: a stop asks the job to save its state and then ends it like any other.
    """
    host = rented.host
    is_known_there = office.ledger.job(job.id).machine == rented.record.label
    found = _reach(office, rented, lambda: host.job_status(job)) if is_known_there else {"state": "absent"}
    if found["state"] in ("absent", "lost"):
        _begin(office, rented, job, capsule, found)
    if (office.settings.detach or office.leaving.is_set()) and not office.stopping.is_set():
        raise Detached
    record = office.ledger.job(job.id)
    mirror = LogMirror(job, record.log_base, prefix, job.output_there)
    stream = LogStream(host, job, mirror, office.clock, office.timing.retry_first)
    try:
        status = _follow(office, rented, job, stream)
        _drain(office, rented, job, stream)
    finally:
        stream.stop()
    if status["state"] == "lost":
        raise BadMachine(f"the supervisor of job {job.id} died on the machine")
    _bring_home(office, rented, job)
    return _judge(office, job, status)


def _begin(office: Office, rented: Rented, job: JobSpec, capsule: Capsule, found: dict[str, Any]) -> None:
    """Working tree, environment and newest fetched state there, then the job started."""
    host = rented.host
    if found["state"] == "lost":
        # The machine kept its disk: what it wrote last is newer than what was fetched.
        early_pull(office, rented, job)
    shipped = _reach(office, rented, lambda: host.ship(capsule))
    if shipped:
        office.say(job.id, f"sent {shipped / 1e6:.1f} MB of {capsule.size / 1e6:.1f} MB")
    python = _reach(office, rented, lambda: host.prepare(capsule, office.settings.python, office.settings.apt))
    held = sync.held(job)
    if held:
        _reach(office, rented, lambda: host.restore(job, job.home, held))
        office.say(job.id, f"continues from {len(held)} fetched files")
    mirror = LogMirror(job, 0)
    # A machine that kept its disk goes on in its old log, most of which is here.
    known = office.ledger.job(job.id)
    length = mirror.length
    here = min(length - known.log_base, found.get("log_size", 0)) if known.machine == rented.record.label else 0
    office.ledger.update_job(
        job.id, outcome=Outcome.running, machine=rented.record.label, started=office.clock.now(),
        log_base=length - here,
    )  # fmt: skip
    secrets = {name: os.environ[name] for name in office.settings.pass_environment if os.environ.get(name)}
    _reach(office, rented, lambda: host.start(job, python, capsule, secrets, office.timing.grace))


def _reach(office: Office, rented: Rented, act: Callable[[], Any]) -> Any:
    """`act()`, repeated over broken connections for as long as the provider says that the machine runs.

    Raises:
        Preempted: it does not run any more.
        BadMachine: it runs, and stayed silent too long.
        Detached: there is no machine to give up, and the job needs no client.
    """
    end: float | None = None
    pause = office.timing.retry_first
    while True:
        try:
            return act()
        except Unreachable as error:
            now = office.clock.now()
            end = end or now + office.timing.unreachable
            _raise_if_lost(office, rented)
            if now >= end and rented.record.offer.per_job:
                text = f"{str(error).rstrip('.')}: the jobs run on without this client"
                office.say(
                    office.launch,
                    f"{text}, `python -m launchers attach {office.launch}` takes them up",
                    logging.WARNING,
                )
                raise Detached from None
            if now >= end:
                raise BadMachine(
                    f"it runs but did not answer for {office.timing.unreachable:.0f} s ({error})"
                ) from None
            office.clock.sleep(pause)
            pause = min(pause * 2, office.timing.poll)


def _raise_if_lost(office: Office, rented: Rented) -> None:
    """Tell apart why a silent machine is silent, as far as the provider knows."""
    instance = rented.record.instance
    assert instance is not None
    if rented.record.offer.per_job:
        return  # it moves its jobs itself
    try:
        status = office.provider.status(instance)
    except RetryLater:
        return
    if status.state in (MachineState.running, MachineState.pending):
        return
    if status.state is MachineState.stopped:
        left = balance_of(office)
        if left is not None and left <= 0:
            raise Preempted(f"instance {instance} was stopped because the account is empty")
        why = (
            "outbid"
            if rented.record.offer.spot and isinstance(office.provider, SpotBidding)
            else "paused by the provider"
        )
        raise Preempted(f"instance {instance} was {why} ({status.detail})")
    raise Preempted(f"the host of instance {instance} was lost ({status.detail})")


def _follow(office: Office, rented: Rented, job: JobSpec, stream: LogStream) -> dict[str, Any]:
    """Watch the job until it has ended; fetch what is new, stop it when a cap is reached or the user says so."""
    next_pull = office.clock.now() + office.settings.sync_every_s
    next_word = office.clock.now() + QUEUED_WORD_S
    stopped = False
    while True:
        status: dict[str, Any] = _reach(office, rented, lambda: rented.host.job_status(job))
        account(office, rented, job, status.get("billed_s"))
        if status["state"] != "running":
            return status
        if office.leaving.is_set():
            raise Detached
        if status.get("queued") and office.clock.now() >= next_word:
            office.say(job.id, "waits for a free card")
            next_word = office.clock.now() + QUEUED_WORD_S
        reason = _reason_to_stop(office, rented, job, status.get("billed_s"))
        if reason and not stopped:
            stopped = True
            office.say(job.id, f"asked to save and end: {reason}")
            _reach(office, rented, partial(rented.host.stop, job, reason))
        if office.clock.now() >= next_pull:
            early_pull(office, rented, job)
            next_pull = office.clock.now() + office.settings.sync_every_s
        stream.wait(office.timing.status)  # the end of the log is the end of the job: no need to sleep over it


def _drain(office: Office, rented: Rented, job: JobSpec, stream: LogStream) -> None:
    """Wait for the rest of the log of a job that has ended, unless its machine is lost meanwhile."""
    end = office.clock.now() + LOG_DRAIN_S
    while not stream.drained(office.timing.status) and office.clock.now() < end:
        _reach(office, rented, lambda: rented.host.job_status(job))
    stream.finish()


def early_pull(office: Office, rented: Rented, job: JobSpec) -> None:
    """Fetch what must survive the machine; trouble here is met again, and handled, by the next look at the job."""
    try:
        report = sync.pull(rented.host, job, office.settings.sync_early)
    except Unreachable:
        return
    if report.files:
        office.ledger.update_job(job.id, results=Results.partial)


def account(office: Office, rented: Rented, job: JobSpec, billed_s: float | None = None) -> None:
    """Put what the machine cost since the last time on the job, or what the job itself ran so far."""
    now = office.clock.now()
    if rented.record.offer.per_job:
        if billed_s is not None:
            cost = max(billed_s / 3600 * rented.record.price, office.ledger.job(job.id).cost)
            office.ledger.update_job(job.id, cost=cost)
        return
    cost = office.ledger.job(job.id).cost + (now - rented.accounted) / 3600 * rented.record.price
    rented.accounted = now
    office.ledger.update_job(job.id, cost=cost)
    office.ledger.update_machine(rented.record.label, accounted=now)


CANCELLED = "cancelled"
MAX_COST = "provider.max_cost is reached"
MAX_HOURS = "provider.max_hours is reached"


def _reason_to_stop(office: Office, rented: Rented, job: JobSpec, billed_s: float | None) -> str | None:
    record = office.ledger.job(job.id)
    settings = office.settings
    if record.cancel or office.stopping.is_set():
        return CANCELLED
    if settings.max_cost is not None and record.cost >= settings.max_cost:
        return MAX_COST
    elapsed = office.clock.now() - rented.record.created if billed_s is None else billed_s
    if elapsed >= settings.max_hours * 3600:
        return MAX_HOURS
    return None


def _bring_home(office: Office, rented: Rented, job: JobSpec) -> None:
    """Everything, verified, before anyone may end the machine."""
    for _ in range(3):
        try:
            _reach(office, rented, lambda: sync.pull_all(rented.host, job))
            sync.finish(job)
            account(office, rented, job)
            office.ledger.update_job(job.id, results=Results.verified)
            _reach(office, rented, lambda: rented.host.discard(job))
            return
        except RetryLater as error:
            problem = error
    raise BadMachine(f"the results of job {job.id} could not be fetched: {problem}")


def _judge(office: Office, job: JobSpec, status: dict[str, Any]) -> Ended:
    """Exit code and reason in our words."""
    code, stopped = status.get("exit_code"), status.get("stopped")
    if stopped == CANCELLED:
        return Ended(Outcome.cancelled, "cancelled by the user", status.get("value"))
    if stopped:
        return Ended(Outcome.capped, stopped, status.get("value"))
    if code == 0:
        return Ended(Outcome.finished, None, status.get("value"))
    if status.get("disk_free_gb", 1.0) < LOW_DISK_GB:
        why = "the machine's disk is full: raise provider.disk_gb"
    elif code in (-9, 137):
        why = "it was killed, most likely for lack of memory"
    elif status.get("why"):
        why = str(status["why"]).rstrip(".")
    else:
        why = f"exit code {code}"
    office.say(job.id, f"failed: {why}", logging.ERROR)
    return Ended(Outcome.failed, f"{why}; its log is {job.home / 'remote.log'}", None)

"""One job on one machine: there, started, followed, stopped at its caps, and home. Safe to begin again at any point."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from launchers.capsule import Capsule
from launchers.errors import BadMachine, Capped, LaunchError, MendInput, Preempted, RetryLater, Unreachable
from launchers.job import JobSpec, MachineState, Outcome, Results
from launchers.lifecycle.office import Office
from launchers.lifecycle.rental import Rented, balance_of
from launchers.lifecycle.warden import CANCELLED, MAX_COST, MAX_HOURS, MAX_TOTAL_COST, Phase, is_over_total
from launchers.plan import reserve
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
        Capped, Cancelled: its time was over before the machine was done. A stop in good time raises nothing: it asks the job
            to save its state and then ends it like any other.
    """
    host = rented.host
    rented.guard.cut = host.cut
    is_known_there = office.ledger.job(job.id).machine == rented.record.label
    found = _reach(office, rented, lambda: host.job_status(job)) if is_known_there else {"state": "absent"}
    rented.guard.phase = Phase.running if is_known_there and found["state"] != "absent" else Phase.setup
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
    rented.guard.phase = Phase.fetching
    _bring_home(office, rented, job)
    rented.guard.asked = None  # what this job was asked is nothing to the next one
    rented.guard.phase = Phase.idle
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
    rented.guard.check()
    rented.guard.phase = Phase.running
    secrets = {name: os.environ[name] for name in office.settings.pass_environment if os.environ.get(name)}
    _reach(office, rented, lambda: host.start(job, python, capsule, secrets, office.timing.grace))


def _reach(office: Office, rented: Rented, act: Callable[[], Any]) -> Any:
    """`act()`, repeated over broken connections for as long as the provider says that the machine runs.

    Raises:
        Preempted: it does not run any more.
        BadMachine: it runs, and stayed silent too long.
        Capped, Cancelled: its time is over.
        Detached: there is no machine to give up, and the job needs no client.
    """
    end: float | None = None
    pause = office.timing.retry_first
    told = False
    guard = rented.guard
    while True:
        guard.check()
        try:
            return act()
        except (RetryLater, MendInput) as error:
            guard.check()
            no_verdict = isinstance(error, MendInput) and rented.record.offer.per_job and guard.phase is not Phase.setup
            if not isinstance(error, Unreachable) and not no_verdict:
                raise
            now = office.clock.now()
            doubt = _doubt(office, rented)
            # Silence counts while somebody vouches that the machine runs: without a word of the provider, it may be us.
            end = end or now + office.timing.unreachable if doubt is None else None
            if doubt is not None and not told:
                told = True
                text = f"{str(error).rstrip('.')}, and {doubt}: trying until its deadline; the job runs on"
                office.say(job_of(office, rented), text, logging.WARNING)
            if end is not None and now >= end and rented.record.offer.per_job:
                text = f"{str(error).rstrip('.')}: the jobs run on without this client"
                office.say(
                    office.launch,
                    f"{text}, `python -m launchers attach {office.launch}` takes them up",
                    logging.WARNING,
                )
                raise Detached from None
            if end is not None and now >= end:
                raise BadMachine(
                    f"it runs but did not answer for {office.timing.unreachable:.0f} s ({error})"
                ) from None
            _pause(office, rented, pause)
            pause = min(pause * 2, office.timing.poll)


def job_of(office: Office, rented: Rented) -> str:
    """What a message about a machine is about: the job it runs."""
    return office.ledger.machine(rented.record.label).job or rented.record.label


def _pause(office: Office, rented: Rented, seconds: float) -> None:
    """Sleep, but not beyond the machine's deadline."""
    end = office.clock.now() + seconds
    while (left := end - office.clock.now()) > 0:
        rented.guard.check()
        office.clock.sleep(min(left, 0.5))


def _doubt(office: Office, rented: Rented) -> str | None:
    """Why a machine is silent, as far as the provider knows: None where it says that the machine runs.

    An answer about the account, or none of the provider's own, is no verdict about the machine: then in words what it was.

    Raises:
        Preempted: the provider says that it runs no more.
    """
    instance = rented.record.instance
    assert instance is not None
    if rented.record.offer.per_job:
        return None  # it moves its jobs itself
    try:
        status = office.provider.status(instance)
    except LaunchError as error:
        return str(error).rstrip(".")
    if status.state in (MachineState.running, MachineState.pending):
        return None
    if status.state is MachineState.stopped:
        left = _balance(office)
        if left is not None and left <= 0:
            raise Preempted(f"instance {instance} was stopped because the account is empty")
        why = (
            "outbid"
            if rented.record.offer.spot and isinstance(office.provider, SpotBidding)
            else "paused by the provider"
        )
        raise Preempted(f"instance {instance} was {why} ({status.detail})")
    raise Preempted(f"the host of instance {instance} was lost ({status.detail})")


def _balance(office: Office) -> float | None:
    try:
        return balance_of(office)
    except LaunchError:
        return None


def _follow(office: Office, rented: Rented, job: JobSpec, stream: LogStream) -> dict[str, Any]:
    """Watch the job until it has ended; fetch what is new, stop it when a cap is reached or the user says so."""
    next_pull = office.clock.now() + office.settings.sync_every_s
    next_word = office.clock.now() + QUEUED_WORD_S
    stopped: float | None = None
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
        if reason and stopped is None:
            stopped = office.clock.now()
            if not rented.record.offer.per_job:
                rented.guard.ask(stopped, reason)
            office.say(job.id, f"asked to save and end: {reason}")
            _reach(office, rented, partial(rented.host.stop, job, reason))
        if reason and stopped is not None and rented.record.offer.per_job:
            if office.clock.now() >= stopped + reserve(office.timing):
                raise Capped(f"{reason}; it was asked to end, and did not")
        elif office.clock.now() >= next_pull and stopped is None:
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
    rented.guard.phase = Phase.syncing
    try:
        report = sync.pull(rented.host, job, office.settings.sync_early)
    except Unreachable:
        return
    except OSError as error:
        text = f"what it wrote so far can't be kept here ({error}): its machine has it; trying again at its end"
        office.say(job.id, text, logging.WARNING)
        return
    finally:
        rented.guard.phase = Phase.running
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
    office.ledger.charge(rented.record.label, now)


def _reason_to_stop(office: Office, rented: Rented, job: JobSpec, billed_s: float | None) -> str | None:
    record = office.ledger.job(job.id)
    settings = office.settings
    if record.cancel or office.stopping.is_set():
        return CANCELLED
    if settings.max_cost is not None and record.cost >= settings.max_cost:
        return MAX_COST
    if (record.seconds if billed_s is None else billed_s) >= settings.max_hours * 3600:
        return MAX_HOURS
    return MAX_TOTAL_COST if is_over_total(office) else None


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

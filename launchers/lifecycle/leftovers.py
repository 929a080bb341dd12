"""What is left when a launch ends otherwise than it should: every machine that may cost money is named, with the way out."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading

from launchers.capacity.base import Lease
from launchers.errors import LaunchError, StillBilled
from launchers.job import Billing, JobState
from launchers.ledger import JobRecord, MachineRecord
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.ended import read_proof, settle_proven
from launchers.lifecycle.release import release, settle_intents, still_billed
from launchers.lifecycle.task import Task

log = logging.getLogger("launchers")


class Leftovers:
    """Of one launch; its workers add to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.kept: set[str] = set()
        """Machines with results that could not be written here."""
        self.mistakes: list[Exception] = []
        self.still_billed: list[StillBilled] = []

    @property
    def has_local_trouble(self) -> bool:
        """Whether a worker ended by this computer's disk or ledger, and not by a bug."""
        return any(isinstance(mistake, OSError | sqlite3.Error) for mistake in self.mistakes)

    def note(self, error: StillBilled) -> None:
        with self._lock:
            self.still_billed.append(error)

    def keep(self, task: Task, lease: Lease, error: Exception) -> str:
        """Keep a machine, within its lease, whose results can't be written here; returns the message for the user."""
        context, record = task.context, lease.record
        log.debug("why the machine is kept:", exc_info=error)
        with self._lock:
            self.kept.add(record.label)
        why = f"{type(error).__name__}: {error}".rstrip(".")
        what = f"the results of job {task.job.id} could not be downloaded to this computer ({why})"
        attach, stop = f"python -m launchers attach {context.launch}", f"python -m launchers stop {context.launch}"
        if not record.bills_idle:
            text = (
                f"NOT DOWNLOADED: {what}; they stay at {record.provider}. Fix that, then download them with `{attach}`."
            )
        else:
            text = (
                f"STILL BILLED: {record.provider} instance {record.instance} was kept, since {what}; it costs "
                f"${record.price:.3f} per hour. Fix that, then download the results and destroy the machine with `{attach}`, "
                f"or destroy it without them with `{stop}`."
            )
        with contextlib.suppress(Exception):  # the ledger's own disk may be the full one
            context.ledger.note_job(task.job.id, f"not downloaded: {why}; `{attach}` tries again")
        context.say(task.job.id, text, logging.ERROR)
        return text

    def settle(self, context: LaunchContext, in_time: bool) -> None:
        """At the end of the launch. `in_time`: false where the user did not wait for the workers."""
        settle_proven(context.ledger, context.launch, context.clock.now())
        if self.mistakes or not in_time:
            self._settle_forgotten(context, in_time)
        if in_time:
            for machine in unsettled(context):
                log.warning("%s", still_billed(machine, "and it is not listed yet"))

    def _settle_forgotten(self, context: LaunchContext, in_time: bool) -> None:
        """What a worker left that ended by a mistake of ours, or that the user did not wait for."""
        kept = set(self.kept)
        for record in context.ledger.jobs(context.launch):
            if record.state.ended or record.machine in self.kept:
                continue
            if record.spec.settings["detach"] or context.leaving.is_set():
                kept.add(record.machine or "")
                continue
            if read_proof(record.spec) is not None:
                continue  # only the ledger does not know yet
            if in_time and not context.stopping.is_set() and self.has_local_trouble:
                self._leave_to_attach(context, record)
                continue
            note, state = "cancelled by the user", JobState.cancelled
            if in_time and not context.stopping.is_set():
                mistake = self.mistakes[-1]  # a bug, which `attach` would run into again
                note, state = f"ended here by {type(mistake).__name__}: {mistake}", JobState.failed
            try:
                context.ledger.job_ended(record.spec.id, state, note, context.clock.now())
            except (sqlite3.Error, OSError) as error:  # its machine costs money all the same
                log.warning("job %s is %s; the ledger could not be written (%s).", record.spec.id, state, error)
        for machine in context.ledger.machines(context.launch):
            if machine.billing is Billing.gone or machine.label in kept or (machine.unsettled and in_time):
                continue
            if not in_time:
                self._name(machine)
                continue
            try:
                release(context, machine.label)
            except StillBilled as error:
                self.note(error)

    def _leave_to_attach(self, context: LaunchContext, record: JobRecord) -> None:
        """A local error is no verdict about a job: its machine, which has no results, is destroyed, and the job waits."""
        mistake = self.mistakes[-1]
        why = f"{type(mistake).__name__}: {mistake}".rstrip(".")
        attach = f"python -m launchers attach {context.launch}"
        context.say(
            record.spec.id,
            f"not finished: this client had to stop ({why}). Resume the job with `{attach}`.",
            logging.ERROR,
        )
        try:
            context.ledger.note_job(record.spec.id, f"this client had to stop ({why}); `{attach}` resumes it")
            context.ledger.job_requeued(record.spec.id, lost=False)
        except (sqlite3.Error, OSError) as error:
            log.debug("not in the ledger: %s", error)

    def _name(self, machine: MachineRecord) -> None:
        text = still_billed(machine, "this command was interrupted first")
        log.error("%s", text)
        self.note(StillBilled(text))


def say_what_runs_on(context: LaunchContext) -> None:
    """Say what keeps running after this client has detached: price, latest end, and the commands to reconnect or stop."""
    machines = [m for m in context.ledger.machines(context.launch) if m.billing is not Billing.gone]
    running = [job for job in context.ledger.jobs(context.launch) if not job.state.ended]
    if not running:
        return
    price = sum(m.price for m in machines)
    ends = [m.deadline for m in machines if m.deadline is not None]
    hours = (max(ends) - context.clock.now()) / 3600 if ends else context.settings.max_hours
    log.warning(
        "Detached. %d job(s) keep running at $%.3f per hour, for at most %.1f more hours. Reconnect and download with "
        "`python -m launchers attach %s`; stop with `python -m launchers cancel %s`.",
        len(running), price, hours, context.launch, context.launch,
    )  # fmt: skip


def unsettled(context: LaunchContext) -> list[MachineRecord]:
    """Machines of a launch whose create call was never answered, and that no list has settled yet."""
    with contextlib.suppress(LaunchError):
        return settle_intents(context)
    return [machine for machine in context.ledger.machines(context.launch) if machine.unsettled]

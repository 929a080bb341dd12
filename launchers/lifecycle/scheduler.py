"""Scheduler of a launch's jobs on its leases: a free lease takes the next job, one that is not needed is released."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from dataclasses import replace
from functools import partial

from launchers.capacity.base import Excluded, Lease
from launchers.errors import (
    Cancelled,
    Kept,
    LaunchError,
    Preempted,
    SetupFailed,
    StillBilled,
)
from launchers.job import Billing, JobState
from launchers.lifecycle.after_error import Act, Decision, Detached, Facts, Fate, Stage, after_error
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.deadlines import DeadlineMonitor, check_caps
from launchers.lifecycle.ended import Ended, note_end, read_proof
from launchers.lifecycle.leftovers import Leftovers, say_what_runs_on, unsettled
from launchers.lifecycle.release import release
from launchers.lifecycle.running import Search, run_job
from launchers.lifecycle.source import TaskList, TaskSource
from launchers.lifecycle.stops import Stops, wait_out
from launchers.lifecycle.task import Task
from launchers.providers.base import Resumes

log = logging.getLogger("launchers")
KEEP_S = 5.0
"""How long a machine without a job is kept while a search may decide on another one."""
LOOK_S = 0.5


class Scheduler:
    """Runs a launch to its end, or resumes one. Everything that matters is in the ledger at every moment."""

    def __init__(
        self, tasks: list[Task] | TaskSource, machines: int, prefixed: bool, excluded: Excluded | None = None, stops: Stops | None = None,
        monitor: DeadlineMonitor | None = None, context: LaunchContext | None = None,
        attached: bool = False,
    ) -> None:  # fmt: skip
        """`context`: of the launch, where its source may have no job at the start. `attached`: the first Ctrl-C leaves jobs alone."""
        self._attached = attached
        self._source: TaskSource = TaskList(tasks) if isinstance(tasks, list) else tasks
        self._context = context
        self._wake = threading.Event()
        """Set, and replaced, when a job ends: a search may have another one then."""
        self._machines = machines
        self._prefixed = prefixed
        self._lock = threading.Lock()
        self._excluded = excluded or Excluded()
        self._stops = stops or Stops()
        self._monitor = monitor or DeadlineMonitor()
        self._workers = 0
        self._failed_setups = 0
        self._leftovers = Leftovers()

    @property
    def still_billed(self) -> list[StillBilled]:
        """What may cost money after the end."""
        return self._leftovers.still_billed

    def run(self, recovered: list[tuple[Lease, Task]] = []) -> None:  # noqa: B006
        """Until every job has ended. `recovered`: leases that exist already, each with the job it runs or ran.

        Raises:
            SystemExit: the user asked for the end; what is still billed has been named.
        """
        waiting = self._source.remaining()
        contexts = [task.context for task in waiting] + [task.context for _, task in recovered]
        contexts += [self._context] if self._context is not None else []
        if not contexts:
            return
        self._context = contexts[0]
        for each in contexts:
            self._share(each)
        starts: list[tuple[Lease | None, Task | None]] = list(recovered)
        is_list = isinstance(self._source, TaskList)
        jobs = len(waiting) + len(recovered)
        count = self._context.capacity.workers(jobs, self._machines) if is_list else self._machines
        starts += [(None, None)] * max(0, count - len(recovered))
        workers = [threading.Event() for _ in starts]
        self._workers = len(workers)
        context = contexts[0]
        self._monitor.start(context, lambda guard: release(guard.context, guard.label), lambda: unsettled(context))
        for number, (done, (lease, task)) in enumerate(zip(workers, starts, strict=True)):
            # Daemons: where the user leaves before they are done, the interpreter must not wait for them.
            context.clock.start(partial(self._work_and_say, done, lease, task), f"machine-{number}")
        try:
            in_time = wait_out(workers, context, self._stops, self._monitor, self._attached)
        finally:
            self._monitor.close()
        try:
            self._settle_waiting()
            self._leftovers.settle(context, in_time)
            if context.leaving.is_set() and not context.stopping.is_set():
                say_what_runs_on(context)
        except (OSError, sqlite3.Error) as error:
            log.error(
                "The ledger can't be written (%s). List and destroy orphaned machines with `python -m launchers reap`.",
                error,
            )
        context.capacity.close()
        self._stops.leave_if_asked()

    # --- a worker

    def _share(self, context: LaunchContext) -> None:
        """Capacity, deadlines and a stop are the launch's, whichever job's context asks."""
        assert self._context is not None
        context.monitor = self._monitor
        context.stopping, context.leaving = self._context.stopping, self._context.leaving
        context.capacity, context.places = self._context.capacity, self._context.places

    def _wait_for_task(self, kind: tuple[object, ...] | None, seconds: float | None = None) -> Task | None:
        """The next job; None when there is none, and none comes within `seconds`, or ever, or the user wants to stop."""
        assert self._context is not None
        clock, began = self._context.clock, self._context.clock.now()
        while True:
            wake = self._wake
            if self._context.stopping.is_set() and not isinstance(self._source, TaskList):
                return None  # a search would decide on jobs for ever, each to be cancelled
            task = self._source.next(kind)
            if task is not None:
                self._share(task.context)
                return task
            leaves = self._context.stopping.is_set() or self._context.leaving.is_set()
            if leaves or self._source.is_over() or (seconds is not None and clock.now() >= began + seconds):
                return None
            clock.wait(wake, LOOK_S)

    def _tell_source(self, task: Task) -> None:
        with contextlib.suppress(sqlite3.Error, OSError):  # met, and told, where the job's own end is written
            record = task.context.ledger.job(task.job.id)
            proven = None if record.state.ended else read_proof(task.job)
            if proven is not None:
                record = replace(record, state=proven.state, note=proven.note, value=proven.value)
            if record.state.ended:
                self._source.ended(task, record)
        wake, self._wake = self._wake, threading.Event()
        wake.set()

    def _work_and_say(self, done: threading.Event, lease: Lease | None, task: Task | None) -> None:
        retired = False
        try:
            retired = self._work(lease, task)
        except Exception as error:
            self._leftovers.mistakes.append(error)
            _say_what_failed(error)
        finally:
            if not retired:
                with self._lock:
                    self._workers -= 1
            done.set()

    def _work(self, lease: Lease | None, task: Task | None) -> bool:
        """One machine after another, one job after another, until no job is left that this worker can do.

        Returns true when it left its job to the others: there is no machine for it, and they have some.
        """
        kind, context = (task.kind, task.context) if task else (None, None)
        try:
            while True:
                if task is None and lease is not None and context is not None:
                    task = self._wait_for_task(kind, KEEP_S)
                    if task is None:  # a search may have another job later, and a machine costs money meanwhile
                        self._return(context, lease)
                        lease = None
                task = task or self._wait_for_task(kind)
                if task is None:
                    return False
                if lease is not None and task.kind != kind:
                    self._return(context, lease)
                    lease = None
                kind, context = task.kind, task.context
                try:
                    lease = self._attempt(task, lease)
                finally:
                    self._tell_source(task)
                task = None
        except _Retired:
            return True
        except Detached:
            assert task is not None
            self._leave_alone(task, lease)
            lease = None
        except StillBilled as error:
            self._leftovers.note(error)
            lease = None
        except LaunchError as error:
            log.error("%s", error)
        finally:
            if lease is not None and context is not None:
                self._return(context, lease)
        return False

    def _attempt(self, task: Task, lease: Lease | None) -> Lease | None:
        """One job once; returns the machine if it can take another."""
        context, job = task.context, task.job
        try:
            proven = read_proof(job)
            if proven is not None:
                self._note_end(task, proven)
                return lease
            record = context.ledger.job(job.id)
            is_there = lease is not None and record.machine == lease.record.label
            # A job that is on its machine is stopped gracefully: `run_job` asks it to save, and downloads its results.
            if not is_there and (record.cancel or context.stopping.is_set()):
                raise Cancelled("cancelled by the user")
            if lease is None:
                lease = context.capacity.acquire(task, self._excluded)
            else:
                if not is_there:
                    check_caps(context, job.id)
                context.capacity.extend(context, lease, job.id)
            prefix = f"[{job.number}] " if self._prefixed else ""
            source = self._source
            search = (
                None
                if isinstance(source, TaskList)
                else Search(partial(source.report, task), partial(source.why_stop, task))
            )
            ended = run_job(context.at(lease.record.provider), lease, job, task.snapshot, prefix, search)
            self._note_end(task, ended)
            return lease
        except Exception as error:
            facts = self._facts(task, lease, error)
            return self._act(task, lease, error, facts, after_error(error, facts, context.settings))

    # --- after an error

    def _facts(self, task: Task, lease: Lease | None, error: Exception) -> Facts:
        context, job = task.context, task.job
        if lease is not None:
            context = context.at(lease.record.provider)
            with contextlib.suppress(sqlite3.Error, OSError):  # trouble of the ledger is met again where it counts
                context.capacity.charge(context, lease, job, is_alive=False)
        record = context.ledger.job(job.id)
        self._failed_setups += isinstance(error, SetupFailed)
        others = any(machine.billing is not Billing.gone for machine in context.ledger.machines(context.launch))
        return Facts(
            Stage.attempt, phase=lease.guard.phase if lease else None,
            keeps_jobs=context.capacity.keeps_jobs, started=record.started is not None,
            restarts=record.restarts, cost=record.cost, failed_setups=self._failed_setups,
            others_have_leases=others and self._workers > 1, is_stopping=context.stopping.is_set(),
            is_over=lease is not None and lease.guard.over is not None,
            can_resume=isinstance(context.provider, Resumes), folder=job.folder, proof=read_proof(job),
        )  # fmt: skip

    def _act(self, task: Task, lease: Lease | None, error: Exception, facts: Facts, decision: Decision) -> Lease | None:
        """Do what was decided; returns the lease that takes the next job.

        Raises:
            Exception: this worker ends.
        """
        context, job, now = task.context, task.job, task.context.clock.now
        if decision.act is Act.retire:
            if self._retires(task, error):
                raise _Retired from None
            facts = replace(facts, others_have_leases=False)  # they have retired meanwhile
            return self._act(task, lease, error, facts, after_error(error, facts, context.settings))
        if decision.act is Act.detach:
            raise error
        if decision.act is Act.keep:
            assert lease is not None
            raise Kept(self._keep(task, lease, error)) from error
        if decision.fate is Fate.lost:
            if lease is not None and isinstance(error, Preempted):
                with contextlib.suppress(sqlite3.Error, OSError):  # a figure for later plans must not keep a machine
                    context.ledger.machine_lost(lease.record.label, now())
            context.say(job.id, f"lost its machine: {error}", logging.WARNING)
        elif facts.is_over and decision.act is Act.end:
            context.say(job.id, f"{decision.state}: {decision.note}", logging.WARNING)
        lease = self._settle_lease(task, lease, decision)
        if decision.act is Act.leave:
            raise error
        if decision.act is Act.requeue:
            context.ledger.job_requeued(job.id, lease.record.label if lease else None)
            self._source.put_back(task)
            return lease
        assert decision.act is Act.end
        assert decision.state is not None
        if facts.proof is not None:
            self._note_end(task, facts.proof)
        else:
            leaves = decision.fate is Fate.lost
            context.ledger.job_ended(job.id, decision.state, decision.note, now(), leaves=leaves)
        if decision.fate is Fate.dropped:
            raise error
        return lease

    def _settle_lease(self, task: Task, lease: Lease | None, decision: Decision) -> Lease | None:
        """The lease after an error: as it was, resumed, or None."""
        context, job = task.context, task.job
        if lease is None or decision.fate is Fate.stays:
            return lease
        if decision.fate is Fate.released:
            self._return(context, lease)
        if decision.fate is not Fate.lost:
            return None
        try:
            return context.capacity.after_loss(
                context, lease, job.id, self._excluded, decision.resumes, decision.blames
            )
        except StillBilled as still:
            context.ledger.job_ended(job.id, JobState.failed, str(still), context.clock.now())
            raise

    def _note_end(self, task: Task, ended: Ended) -> None:
        """A job whose results are here has ended, whether the ledger can be written or not."""
        try:
            note_end(task.context.ledger, task.job, ended, task.context.clock.now())
        except (sqlite3.Error, OSError) as error:
            log.debug(
                "the end of %s is not in the ledger yet: %s", task.job.id, error
            )  # tried again at the end of the launch

    def _retires(self, task: Task, error: Exception) -> bool:
        """Leave a job to the other workers; false for the last one."""
        with self._lock:
            if self._workers < 2:
                return False
            self._workers -= 1
        self._source.put_back(task)
        task.context.say(task.job.id, f"no machine of its own; waiting for one of the other jobs' machines: {error}")
        return True

    # --- what becomes of machines

    def _leave_alone(self, task: Task, lease: Lease | None) -> None:
        """Not an orphan: `reap` leaves it alone until its hours are over."""
        task.job.settings["detach"] = True
        task.context.ledger.set_spec(task.job)
        if lease is not None:
            task.context.capacity.detach(task.context, lease)

    def _keep(self, task: Task, lease: Lease, error: Exception) -> str:
        """Leave a lease whose results can't be written here to a later `attach`; returns what to tell."""
        _say_what_failed(error)
        self._monitor.forget(lease.record.label)
        text = self._leftovers.keep(task, lease, error)
        with contextlib.suppress(sqlite3.Error, OSError):  # the ledger's own disk may be the full one
            self._leave_alone(task, lease)
        return text

    def _return(self, context: LaunchContext | None, lease: Lease) -> None:
        assert context is not None
        try:
            context.capacity.release(context, lease)
        except StillBilled as error:
            self._leftovers.note(error)

    # --- at the end

    def _settle_waiting(self) -> None:
        """Jobs that no worker could take: those of a stopped launch."""
        for task in self._source.remaining():
            context = task.context
            if context.settings.detach or self._attached:
                continue  # `attach` starts it
            is_stopped = context.stopping.is_set() or context.leaving.is_set()
            if (self._leftovers.kept or self._leftovers.has_local_trouble) and not is_stopped:
                context.say(
                    task.job.id,
                    f"not started: `python -m launchers attach {context.launch}` starts it",
                    logging.WARNING,
                )
                continue
            try:
                context.ledger.job_ended(task.job.id, JobState.cancelled, "never started", context.clock.now())
            except (sqlite3.Error, OSError) as error:
                log.warning("job %s never started; the ledger could not be written (%s).", task.job.id, error)
            if context.leaving.is_set():
                context.say(task.job.id, "cancelled: the job had not started, and only a client starts jobs")


class _Retired(Exception):
    """A worker without a machine leaves its job to the others."""


def _say_what_failed(error: Exception) -> None:
    """Log a local error in one line, an internal one with its traceback."""
    if isinstance(error, LaunchError):
        log.error("%s", error)
    elif isinstance(error, OSError | sqlite3.Error):
        log.error("Local error (%s: %s): see disk space and permissions here.", type(error).__name__, error)
    else:
        log.error("Internal error in launchers; please report it with these lines:", exc_info=error)

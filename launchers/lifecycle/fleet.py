"""The jobs of a launch on up to `machines` machines: a free machine takes the next job, an unneeded one is given back."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from launchers.errors import (
    BadMachine,
    Cancelled,
    LaunchError,
    MendInput,
    Preempted,
    SetupFailed,
    StillBilled,
    Unreachable,
)
from launchers.job import Billing, Outcome
from launchers.lifecycle.applications import Applications
from launchers.lifecycle.office import Office
from launchers.lifecycle.rental import Excluded, Rented, extend_lease, give_back, resume
from launchers.lifecycle.running import Detached, account, run_job
from launchers.lifecycle.task import Task
from launchers.providers.base import Resumes, Serverless

log = logging.getLogger("launchers")
SETUPS = 2
"""After so many machines on which the packages could not be installed, the project is at fault and not the machines."""


class Fleet:
    """Runs a launch to its end, or takes one up again. Everything that matters is in the ledger at every moment."""

    def __init__(self, tasks: list[Task], machines: int, prefixed: bool, excluded: Excluded | None = None) -> None:
        self._waiting = deque(tasks)
        self._machines = machines
        self._prefixed = prefixed
        self._lock = threading.Lock()
        self._excluded = excluded or Excluded()
        self._applications = Applications()
        self._failed_setups = 0
        self._mistakes: list[Exception] = []
        self.still_billed: list[StillBilled] = []

    def run(self, held: list[tuple[Rented, Task]] = []) -> None:  # noqa: B006
        """Until every job has ended. `held`: machines that exist already, each with the job it runs or ran."""
        offices = [task.office for task in self._waiting] + [task.office for _, task in held]
        starts: list[tuple[Rented | None, Task | None]] = list(held)
        for rented_before, _ in held:
            self._applications.join(rented_before)
        serverless = any(isinstance(office.provider, Serverless) for office in offices)
        # Where no machine is, each job has its own container: they all start, and queue at the provider.
        limit = len(offices) if serverless else self._machines
        starts += [(None, None)] * max(0, min(limit, len(self._waiting) + len(held)) - len(held))
        workers = [threading.Event() for _ in starts]
        for number, (done, (rented, task)) in enumerate(zip(workers, starts, strict=True)):
            arguments = (done, rented, task)
            threading.Thread(target=self._work_and_say, args=arguments, name=f"machine-{number}").start()
        try:
            _wait_for(workers)
        except BaseException as error:
            leaves = serverless and isinstance(error, KeyboardInterrupt) and not _asked_twice(offices[0])
            # Ctrl-C, SIGTERM: jobs save their state, results come home, machines are given back; then it passes on.
            for office in offices:
                (office.leaving if leaves else office.stopping).set()
            _wait_for(workers)
            raise
        finally:
            self._settle_waiting()
            if self._mistakes:
                self._settle_forgotten(offices[0])
            self._applications.close()

    def _work_and_say(self, done: threading.Event, rented: Rented | None, task: Task | None) -> None:
        try:
            self._work(rented, task)
        except Exception as error:
            self._mistakes.append(error)
            log.exception("A mistake in the launchers; please report it with these lines:")
        finally:
            done.set()

    def _work(self, rented: Rented | None, task: Task | None) -> None:
        """One machine after another, one job after another, until no job is left that this worker can do."""
        kind, office = (task.kind, task.office) if task else (None, None)
        try:
            while True:
                task = task or self._next(kind)
                if task is None:
                    return
                if rented is not None and task.kind != kind:
                    self._return(office, rented)
                    rented = None
                kind, office = task.kind, task.office
                rented = self._attempt(task, rented)
                task = None
        except Detached:
            assert task is not None
            assert office is not None
            # Not an orphan: `reap` leaves it alone until its hours are over.
            task.job.settings["detach"] = True
            office.ledger.update_job(task.job.id, spec=task.job.to_json())
            rented = None
        except StillBilled as error:
            self._note_still_billed(error)
            rented = None
        except LaunchError as error:
            log.error("%s", error)
        finally:
            if rented is not None and office is not None:
                self._return(office, rented)

    def _attempt(self, task: Task, rented: Rented | None) -> Rented | None:
        """One job once; returns the machine if it can take another."""
        office, job = task.office, task.job
        try:
            record = office.ledger.job(job.id)
            is_there = rented is not None and record.machine == rented.record.label
            # A job that is on its machine ends there in good order: `run_job` asks it to save, and brings it home.
            if not is_there and (record.cancel or office.stopping.is_set()):
                raise Cancelled("cancelled by the user")
            if rented is None:
                rented = self._applications.find_or_rent(task, self._excluded)
            else:
                extend_lease(office, rented.host, rented.record.label)
            prefix = f"[{job.number}] " if self._prefixed else ""
            ended = run_job(office, rented, job, task.capsule, prefix)
            now = office.clock.now()
            office.ledger.update_job(job.id, outcome=ended.outcome, note=ended.note, value=ended.value, ended=now)
            return rented
        except (Preempted, BadMachine, Unreachable) as error:
            if rented is None and office.ledger.job(job.id).started is None:
                # The market never answered: there was no machine to lose, and the same again would take as long.
                office.ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=office.clock.now())
            else:
                return self._lose(task, rented, error)
            return None
        except (Cancelled, MendInput) as error:
            outcome = Outcome.cancelled if isinstance(error, Cancelled) else Outcome.failed
            office.ledger.update_job(job.id, outcome=outcome, note=str(error), ended=office.clock.now())
            return rented
        except StillBilled as error:
            office.ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=office.clock.now())
            raise
        except LaunchError as error:
            office.ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=office.clock.now())
            return rented

    def _lose(self, task: Task, rented: Rented | None, error: LaunchError) -> Rented | None:
        """A machine went away under a job: take it up again or give it back, and let the job go on within its caps."""
        office, job = task.office, task.job
        office.say(job.id, f"lost its machine: {error}", logging.WARNING)
        if rented is not None:
            account(office, rented, job)
        record = office.ledger.job(job.id)
        restarts, limit = record.restarts, office.settings.max_restarts
        cost, cap = record.cost, office.settings.max_cost
        outcome, note = Outcome.waiting, record.note
        self._failed_setups += isinstance(error, SetupFailed)
        if isinstance(error, SetupFailed) and self._failed_setups >= SETUPS:
            outcome = Outcome.failed
            note = f"no environment for it could be made, on {self._failed_setups} machines: {error}"
        elif restarts >= limit:
            outcome = Outcome.lost
            note = f"lost {restarts + 1} machines, provider.max_restarts is {limit}; the last: {error}"
        elif cap is not None and cost >= cap:
            outcome, note = Outcome.capped, f"provider.max_cost is reached; the last machine was lost: {error}"
        again = None
        if rented is not None and self._applications.leave(rented, lost=True):
            rented.host.close()
            if outcome is Outcome.waiting and isinstance(error, Preempted) and not office.stopping.is_set():
                again = resume(office, rented.record, rented.accounted, self._excluded)
            if again is None:
                give_back(office, rented.record.label)
        # Where a paused machine can be asked for again, its host was no worse than others: somebody paid more.
        blameless = isinstance(error, Preempted) and isinstance(office.provider, Resumes)
        if rented is not None and again is None and not rented.record.offer.per_job and not blameless:
            self._excluded.hosts.add(rented.record.offer.host)
        if outcome is Outcome.waiting:
            machine = again.record.label if again else None
            office.ledger.update_job(job.id, outcome=outcome, restarts=restarts + 1, machine=machine)
            with self._lock:
                self._waiting.appendleft(task)
        else:
            office.ledger.update_job(job.id, outcome=outcome, note=note, ended=office.clock.now(), machine=None)
        return again

    def _next(self, kind: tuple[object, ...] | None) -> Task | None:
        """The next job, one for the same kind of machine first."""
        with self._lock:
            for task in self._waiting:
                if kind is None or task.kind == kind:
                    self._waiting.remove(task)
                    return task
            return self._waiting.popleft() if self._waiting else None

    def _return(self, office: Office | None, rented: Rented) -> None:
        assert office is not None
        if not self._applications.leave(rented):
            return
        rented.host.close()
        try:
            give_back(office, rented.record.label)
        except StillBilled as error:
            self._note_still_billed(error)

    def _note_still_billed(self, error: StillBilled) -> None:
        with self._lock:
            self.still_billed.append(error)

    def _settle_waiting(self) -> None:
        """Jobs that no worker could take: those of a stopped launch."""
        for task in self._waiting:
            if not task.office.settings.detach and not task.office.leaving.is_set():
                task.office.ledger.update_job(task.job.id, outcome=Outcome.cancelled, note="never started")

    def _settle_forgotten(self, office: Office) -> None:
        """What a worker left that ended by a mistake of ours: a job nobody follows, a machine nobody gives back."""
        kept = set()
        for record in office.ledger.jobs(office.launch):
            if record.outcome.ended:
                continue
            if record.spec.settings["detach"] or office.leaving.is_set():
                kept.add(record.machine)
                continue
            note = f"a mistake in the launchers ended it ({type(self._mistakes[-1]).__name__}: {self._mistakes[-1]})"
            office.ledger.update_job(record.spec.id, outcome=Outcome.failed, note=note, ended=office.clock.now())
        for machine in office.ledger.machines(office.launch):
            if machine.billing is not Billing.gone and machine.label not in kept:
                try:
                    give_back(office, machine.label)
                except StillBilled as error:
                    self._note_still_billed(error)


def _asked_twice(office: Office) -> bool:
    """Whether Ctrl-C comes again soon: once leaves the jobs alone, twice ends them."""
    log.warning(
        "Interrupted: the jobs run on without this client, and `python -m launchers attach %s` brings them home; "
        "Ctrl-C again within %.0f s ends them now.", office.launch, office.timing.second_interrupt,
    )  # fmt: skip
    try:
        time.sleep(office.timing.second_interrupt)
    except KeyboardInterrupt:
        return True
    return False


def _wait_for(workers: list[threading.Event]) -> None:
    """Until every worker is done. Not `Thread.join`: an exception in it makes Python 3.11 take a live thread for dead."""
    for done in workers:
        while not done.wait(0.2):
            pass

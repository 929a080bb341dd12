"""The jobs of a launch on up to `machines` machines: a free machine takes the next job, an unneeded one is given back."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import deque

from launchers.errors import (
    BadMachine,
    Cancelled,
    Capped,
    Kept,
    LaunchError,
    NoOffer,
    Preempted,
    SetupFailed,
    StillBilled,
    Unreachable,
)
from launchers.job import Billing, Outcome
from launchers.lifecycle.applications import Applications
from launchers.lifecycle.ending import give_back
from launchers.lifecycle.leftovers import Leftovers, unsettled
from launchers.lifecycle.office import Office
from launchers.lifecycle.rental import Excluded, Rented, check_caps, extend_lease, resume
from launchers.lifecycle.running import Detached, account, run_job
from launchers.lifecycle.stops import Stops, wait_out
from launchers.lifecycle.task import Task
from launchers.lifecycle.warden import Phase, Warden
from launchers.providers.base import Resumes, Serverless

log = logging.getLogger("launchers")
HOLDS_RESULTS = (Phase.running, Phase.syncing, Phase.fetching)
SETUPS = 2
"""After so many machines on which the packages could not be installed, the project is at fault and not the machines."""


class Fleet:
    """Runs a launch to its end, or takes one up again. Everything that matters is in the ledger at every moment."""

    def __init__(
        self, tasks: list[Task], machines: int, prefixed: bool, excluded: Excluded | None = None, stops: Stops | None = None,
        warden: Warden | None = None,
    ) -> None:  # fmt: skip
        self._waiting = deque(tasks)
        self._machines = machines
        self._prefixed = prefixed
        self._lock = threading.Lock()
        self._excluded = excluded or Excluded()
        self._applications = Applications()
        self._stops = stops or Stops()
        self._warden = warden or Warden()
        self._workers = 0
        self._failed_setups = 0
        self._leftovers = Leftovers()

    @property
    def still_billed(self) -> list[StillBilled]:
        """What may cost money after the end."""
        return self._leftovers.still_billed

    def run(self, held: list[tuple[Rented, Task]] = []) -> None:  # noqa: B006
        """Until every job has ended. `held`: machines that exist already, each with the job it runs or ran.

        Raises:
            SystemExit: the user asked for the end; what is still billed has been named.
        """
        offices = [task.office for task in self._waiting] + [task.office for _, task in held]
        if not offices:
            return
        for office in offices:
            office.warden = self._warden
        starts: list[tuple[Rented | None, Task | None]] = list(held)
        for rented_before, _ in held:
            self._applications.join(rented_before)
        serverless = any(isinstance(office.provider, Serverless) for office in offices)
        # Where no machine is, each job has its own container: they all start, and queue at the provider.
        limit = len(offices) if serverless else self._machines
        starts += [(None, None)] * max(0, min(limit, len(self._waiting) + len(held)) - len(held))
        workers = [threading.Event() for _ in starts]
        self._workers = len(workers)
        office = offices[0]
        self._warden.start(office, lambda guard: give_back(guard.office, guard.label), lambda: unsettled(office))
        for number, (done, (rented, task)) in enumerate(zip(workers, starts, strict=True)):
            # Daemons: where the user leaves before they are done, the interpreter must not wait for them.
            thread = threading.Thread(target=self._work_and_say, args=(done, rented, task), name=f"machine-{number}")
            thread.daemon = True
            thread.start()
        may_leave = serverless or (bool(held) and all(task.job.settings["detach"] for _, task in held))
        try:
            in_time = wait_out(workers, offices, self._stops, self._warden, may_leave)
        finally:
            self._warden.close()
        try:
            self._settle_waiting()
            self._leftovers.settle(office, in_time)
        except (OSError, sqlite3.Error) as error:
            log.error("The ledger can't be written (%s): `python -m launchers reap` looks for machines.", error)
        self._applications.close()
        self._stops.leave_if_asked()

    # --- a worker

    def _work_and_say(self, done: threading.Event, rented: Rented | None, task: Task | None) -> None:
        retired = False
        try:
            retired = self._work(rented, task)
        except Exception as error:
            self._leftovers.mistakes.append(error)
            _say_what_failed(error)
        finally:
            if not retired:
                with self._lock:
                    self._workers -= 1
            done.set()

    def _work(self, rented: Rented | None, task: Task | None) -> bool:
        """One machine after another, one job after another, until no job is left that this worker can do.

        Returns true when it left its job to the others: there is no machine for it, and they have some.
        """
        kind, office = (task.kind, task.office) if task else (None, None)
        try:
            while True:
                task = task or self._next(kind)
                if task is None:
                    return False
                if rented is not None and task.kind != kind:
                    self._return(office, rented)
                    rented = None
                kind, office = task.kind, task.office
                rented = self._attempt(task, rented)
                task = None
        except _Retired:
            return True
        except Detached:
            assert task is not None
            self._leave_alone(task, rented)
            rented = None
        except StillBilled as error:
            self._leftovers.note(error)
            rented = None
        except LaunchError as error:
            log.error("%s", error)
        finally:
            if rented is not None and office is not None:
                self._return(office, rented)
        return False

    def _attempt(self, task: Task, rented: Rented | None) -> Rented | None:
        """One job once; returns the machine if it can take another."""
        office, job = task.office, task.job
        ledger, now = office.ledger, office.clock.now
        try:
            record = ledger.job(job.id)
            is_there = rented is not None and record.machine == rented.record.label
            # A job that is on its machine ends there in good order: `run_job` asks it to save, and brings it home.
            if not is_there and (record.cancel or office.stopping.is_set()):
                raise Cancelled("cancelled by the user")
            if rented is None:
                rented = self._applications.find_or_rent(task, self._excluded)
            else:
                if not is_there:
                    check_caps(office, job.id)
                extend_lease(office, rented.host, rented.record.label, job.id)
            prefix = f"[{job.number}] " if self._prefixed else ""
            ended = run_job(office, rented, job, task.capsule, prefix)
            ledger.update_job(job.id, outcome=ended.outcome, note=ended.note, value=ended.value, ended=now())
            return rented
        except (Preempted, BadMachine, Unreachable) as error:
            if rented is None and ledger.job(job.id).started is None:
                # The market never answered: there was no machine to lose, and the same again would take as long.
                ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=now())
            else:
                return self._lose(task, rented, error)
            return None
        except (Cancelled, Capped) as error:
            outcome = Outcome.cancelled if isinstance(error, Cancelled) else Outcome.capped
            note = str(error)
            if rented is not None and rented.guard.over is not None:
                note = f"{note.rstrip('.')}; what was downloaded until then is in {job.folder}"
                office.say(job.id, f"{outcome.value}: {note}", logging.WARNING)
            ledger.update_job(job.id, outcome=outcome, note=note, ended=now())
            return rented
        except StillBilled as error:
            ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=now())
            raise
        except Detached:
            raise
        except Exception as error:
            if isinstance(error, NoOffer) and rented is None and self._retires(task, error):
                raise _Retired from None
            if rented is not None and rented.guard.phase in HOLDS_RESULTS:
                raise Kept(self._keep(task, rented, error)) from error
            if isinstance(error, LaunchError):
                ledger.update_job(job.id, outcome=Outcome.failed, note=str(error), ended=now())
                return rented
            if rented is not None:
                self._return(office, rented)
            raise

    def _retires(self, task: Task, error: NoOffer) -> bool:
        """Whether a worker that finds no machine leaves its job to the others, who have some; the last one does not."""
        office = task.office
        have_some = any(machine.billing is not Billing.gone for machine in office.ledger.machines(office.launch))
        with self._lock:
            if self._workers < 2 or not have_some:
                return False
            self._workers -= 1
            self._waiting.appendleft(task)
        office.say(task.job.id, f"waits for a machine of the other jobs: {error}")
        return True

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
                again = resume(office, rented.record, job.id, self._excluded)
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

    # --- what becomes of machines

    def _leave_alone(self, task: Task, rented: Rented | None) -> None:
        """Not an orphan: `reap` leaves it alone until its hours are over."""
        task.job.settings["detach"] = True
        task.office.ledger.update_job(task.job.id, spec=task.job.to_json())
        if rented is not None and not rented.record.offer.per_job:
            self._warden.forget(rented.record.label)

    def _keep(self, task: Task, rented: Rented, error: Exception) -> str:
        """Leave a machine whose results can't be written here to a later `attach`; returns what to tell."""
        _say_what_failed(error)
        self._warden.forget(rented.record.label)
        text = self._leftovers.keep(task, rented, error)
        with contextlib.suppress(Exception):  # the ledger's own disk may be the full one
            self._leave_alone(task, rented)
        self._applications.leave(rented)
        rented.host.close()
        return text

    def _return(self, office: Office | None, rented: Rented) -> None:
        assert office is not None
        if not self._applications.leave(rented):
            return
        if rented.guard.over is None:
            rented.host.close()
        try:
            give_back(office, rented.record.label)
        except StillBilled as error:
            self._leftovers.note(error)

    # --- at the end

    def _settle_waiting(self) -> None:
        """Jobs that no worker could take: those of a stopped launch."""
        for task in self._waiting:
            if not task.office.settings.detach and not task.office.leaving.is_set():
                task.office.ledger.update_job(task.job.id, outcome=Outcome.cancelled, note="never started")


class _Retired(Exception):
    """A worker without a machine leaves its job to the others."""


def _say_what_failed(error: Exception) -> None:
    """Trouble of this computer in a sentence, a mistake of ours with all that helps to find it."""
    if isinstance(error, LaunchError):
        log.error("%s", error)
    elif isinstance(error, OSError | sqlite3.Error):
        log.error("This computer is in trouble (%s: %s).", type(error).__name__, error)
    else:
        log.error("A mistake in the launchers; please report it with these lines:", exc_info=error)

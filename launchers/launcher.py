"""`RemoteLauncher`: a Hydra launcher for rented machines, whatever the provider.

Checks everything a user can get wrong for all jobs first, packs the working tree once, writes the launch into the ledger,
and then lets the scheduler run it.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus

# Hydra imports this module at each start of every app of the environment, also of the job on the machine: what only a
# launch needs is imported by the functions that need it.
from launchers import remote_job
from launchers.capture import is_planning
from launchers.console import discard, guard_console
from launchers.dispatch import ComposedJob, DispatchingLauncher, JobNotFinished
from launchers.errors import MendInput, StillBilled
from launchers.formats import short_id
from launchers.local import failed, finished
from launchers.registry import CapacityKind, Descriptor, descriptors
from launchers.settings import RentalSettings, Timing, typed
from launchers.text import shown

if TYPE_CHECKING:
    from launchers.ledger import JobRecord, Ledger
    from launchers.lifecycle.context import LaunchContext
    from launchers.lifecycle.scheduler import Scheduler
    from launchers.lifecycle.task import Task
    from launchers.planning import Plan, PlannedJob
    from launchers.search.jobs import SweepJobs
    from launchers.snapshot import Snapshot

log = logging.getLogger("launchers")
RECONNECT = "launch %s: if this terminal closes, reconnect with `python -m launchers attach %s`"
ESTIMATE_FILE = "LAUNCHERS_ESTIMATE_FILE"
"""Names a file that dry runs append their plan to, one JSON row a line."""


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """What is imported and composed before a launch stays: looking through it for garbage takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()


@dataclass(frozen=True)
class Packed:
    """A working tree that was packed, and where what lay elsewhere on this machine is in it."""

    snapshot: Snapshot
    places: dict[Path, str]
    configs: list[Path]

    def holds(self, local_paths: dict[str, Path]) -> bool:
        return all(path in self.places for path in local_paths.values())


class RemoteLauncher(DispatchingLauncher):
    """The Hydra plugin makes a subclass for each provider's descriptor."""

    descriptor: Descriptor

    _ledger: Ledger
    _typed: dict[int, RentalSettings]
    """The settings of each job, by its number."""

    # --- what can be refused before anything starts

    @without_collections()
    def check_jobs(self, jobs: Sequence[ComposedJob]) -> None:
        from launchers.job_secrets import check_config_holds_no_secret, needed_variables
        from launchers.ledger import Ledger
        from launchers.ranges import check_settings

        # A sweep's later jobs are checked when it is their turn.
        self._typed = getattr(self, "_typed", {}) | {
            job.number: typed(self.descriptor.settings, job.config.hydra.launcher.rental, "provider") for job in jobs
        }
        for job in jobs:
            settings = self._settings(job)
            settings.dry_run = settings.dry_run or is_planning()
            check_settings(settings, self._timing(job))
            if not os.environ.get(ESTIMATE_FILE):  # there it is a row of the table
                self.check_settings(settings, len(jobs))
            check_config_holds_no_secret(job)
            settings.pass_environment = needed_variables(job, settings)
            remote_job.entry_point_of(settings)
            remote_job.local_paths_of(job, settings)
        if not all(self._settings(job).dry_run for job in jobs):
            from launchers.lifecycle.opening import open_places

            open_places(self._settings(jobs[0]))
        self._ledger = Ledger.open()

    def check_settings(self, settings: RentalSettings, jobs: int) -> None:
        """Raise `MendInput` for what this provider can't be asked for."""
        self.descriptor.check(settings)
        if settings.nodes > 1 and not self.descriptor.several_nodes:
            able = ", ".join(f"provider={name}" for name, found in descriptors().items() if found.several_nodes)
            raise MendInput(
                f"provider.nodes={settings.nodes}: machines of {self.descriptor.title} share no network, so that a job runs on one. "
                f"Ask for more cards on it, or use a cluster ({able})."
            )
        needs_client = self.descriptor.capacity is CapacityKind.machines
        if needs_client and settings.detach and jobs > settings.machines:
            raise MendInput(
                f"provider.detach with {jobs} jobs on {settings.machines} machine(s) leaves no client to start the next job: "
                f"set provider.machines={jobs}, or do not detach."
            )

    def _settings(self, job: ComposedJob) -> RentalSettings:
        return self._typed[job.number]

    def _timing(self, job: ComposedJob) -> Timing:
        return typed(Timing, job.config.hydra.launcher.timing, "hydra.launcher.timing")

    # --- the launch

    def run_jobs(self, jobs: Sequence[ComposedJob]) -> list[JobReturn]:
        from launchers.ledger import launchers_home

        if self._settings(jobs[0]).dry_run:
            return [self._dry_run(job) for job in jobs]
        home, ledger = launchers_home(), self._ledger
        with without_collections():
            from launchers.job import new_launch_id
            from launchers.lifecycle.opening import close_if_done
            from launchers.lifecycle.reconnect import claimed
            from launchers.lifecycle.scheduler import Scheduler
            from launchers.lifecycle.stops import counted_stops

            launch = new_launch_id(_now())
            tasks = self._tasks(jobs, launch, home, ledger)
        with counted_stops() as stops, claimed(home, launch):
            ledger.add_launch(launch, os.getcwd(), [task.job for task in tasks], _now())
            log.info(RECONNECT, launch, short_id(launch))
            self._say_most(jobs)
            scheduler = Scheduler(tasks, self._settings(jobs[0]).machines, prefixed=len(jobs) > 1, stops=stops)
            try:
                scheduler.run()
            finally:
                close_if_done(ledger, launch)
        _raise_if_still_billed(scheduler)  # before the table, so that no error there hides this message
        records = {record.spec.number: record for record in ledger.jobs(launch)}
        from launchers.cli.job_tables import show_ended

        try:
            show_ended(list(records.values()), _now())
        except BrokenPipeError:
            discard(sys.stdout)
        ledger.close()
        return [_job_return(job, records[job.number]) for job in jobs]

    def run_sweep(self, jobs: SweepJobs) -> None:
        """The jobs of a sweep in one launch: each is composed, checked and packed when a machine is free for it."""
        from launchers.job import new_launch_id
        from launchers.ledger import launchers_home
        from launchers.lifecycle.opening import close_if_done
        from launchers.lifecycle.reconnect import claimed
        from launchers.lifecycle.scheduler import Scheduler
        from launchers.lifecycle.stops import counted_stops
        from launchers.search.meter import of_launch
        from launchers.search.tasks import Names, SweepTasks

        first = jobs.next()
        if first is None:
            return
        jobs.put_back(first)
        settings, timing = self._settings(first), self._timing(first)
        if settings.dry_run:
            self._dry_run_sweep(jobs)
            return
        guard_console()
        home, ledger, launch = launchers_home(), self._ledger, new_launch_id(_now())
        context = self._context(launch, settings, timing, home, ledger)
        left = jobs.dollars_left()
        packed: list[Packed] = []
        composed: dict[int, ComposedJob] = {}
        names = Names(launch)

        def make(job: ComposedJob) -> Task:
            own = self._settings(job)
            own.max_total_cost = min((x for x in (left, own.max_total_cost) if x is not None), default=None)
            if not packed or not packed[-1].holds(remote_job.local_paths_of(job, own)):
                packed.append(self._packed([job], home))
            task = self._task(job, names.new(job.number), packed[-1], context)
            ledger.add_jobs(launch, [task.job])
            composed[job.number] = job
            return task

        tasks = SweepTasks(jobs, make)
        jobs.sweep.meter = of_launch(ledger, launch)
        with counted_stops() as stops, claimed(home, launch):
            ledger.add_launch(launch, os.getcwd(), [], _now())
            log.info(RECONNECT, launch, short_id(launch))
            scheduler = Scheduler(tasks, settings.machines, prefixed=True, stops=stops, context=context)
            try:
                scheduler.run()
            finally:
                close_if_done(ledger, launch)
        _raise_if_still_billed(scheduler)
        jobs.returns.update({number: _sweep_return(composed[number], jobs, r) for number, r in tasks.records.items()})
        ledger.close()

    def planned(self, job: ComposedJob) -> PlannedJob:
        from launchers.errors import NoOffer
        from launchers.planning import PlannedJob

        plan, balance, note = self._plan(job)
        try:
            plan.require(self._settings(job).max_cost, balance)
            refusal = None
        except NoOffer as error:
            refusal = str(error)
        most, _ = self._most([job])
        return PlannedJob(job.number, tuple(job.overrides), self.descriptor.name, plan, most, note, refusal)

    def _dry_run_sweep(self, jobs: SweepJobs) -> None:
        """The plan of each job that is known; of a search, of its first one."""
        from launchers.search.trials import TrialState

        while (job := jobs.next()) is not None:
            jobs.returns[job.number] = self._dry_run(job)
            jobs.ended(job, TrialState.stopped, seconds=0.0, note="not started")
            if jobs.sweep.settings.searches:
                return

    def _say_most(self, jobs: Sequence[ComposedJob]) -> None:
        """Nothing where nothing is billed."""
        dollars, why = self._most(jobs)
        if dollars > 0:
            log.info("at most $%.2f: %s", dollars, why)

    def _most(self, jobs: Sequence[ComposedJob]) -> tuple[float, str]:
        """$ that these jobs can cost at most, and why."""
        from launchers.planning import most, reserve

        settings, timing = self._settings(jobs[0]), self._timing(jobs[0])
        what = f"{len(jobs)} x " if len(jobs) > 1 else ""
        what += f"{settings.max_hours:g} h at ${settings.max_price:.2f}/h"
        what += f" (${settings.max_cost:.2f} per job)" if settings.max_cost is not None else ""
        what += f", and {reserve(timing) / 60:.0f} min each to save and download"
        if settings.max_total_cost is not None:
            what = f"provider.max_total_cost; {what}"
        return sum(most(self._settings(job), timing, 1) for job in jobs) if settings.max_total_cost is None else most(
            settings, timing, len(jobs)
        ), what

    def _tasks(self, jobs: Sequence[ComposedJob], launch: str, home: Path, ledger: Ledger) -> list[Task]:
        packed = self._packed(jobs, home)
        tasks = []
        for job in jobs:
            context = self._context(launch, self._settings(job), self._timing(job), home, ledger)
            tasks.append(self._task(job, f"{launch}-{job.number}", packed, context))
        return tasks

    def _packed(self, jobs: Sequence[ComposedJob], home: Path) -> Packed:
        """The working tree as it is now, with what these jobs need of this machine: all of them get the same."""
        from launchers.snapshot import pack

        own_configs = remote_job.own_configs_of(jobs[0])
        ships = [remote_job.local_paths_of(job, self._settings(job)) for job in jobs]
        data = tuple(dict.fromkeys(path for ship in ships for path in ship.values()))
        first = self._settings(jobs[0])
        snapshot, places = pack(
            Path.cwd(), home, first.max_snapshot_mb * 1e6, remote_job.result_folders(jobs), data, remote_job.portable_cache_of(jobs, first),
            tuple(own_configs),
        )  # fmt: skip
        return Packed(snapshot, places, own_configs)

    def _task(self, job: ComposedJob, name: str, packed: Packed, context: LaunchContext) -> Task:
        from launchers.job import JobSpec
        from launchers.lifecycle.task import Task

        settings, timing = self._settings(job), self._timing(job)
        ship = {key: packed.places[path] for key, path in remote_job.local_paths_of(job, settings).items()}
        spec = JobSpec(
            id=name,
            number=job.number,
            folder=str(job.folder),
            entry_point=remote_job.entry_point_of(settings),
            overrides=remote_job.remote_overrides_of(
                job, settings, ship, [packed.places[path] for path in packed.configs]
            ),
            snapshot=packed.snapshot.digest,
            settings=asdict(settings),
            timing=asdict(timing),
            hours=remote_job.expected_hours(job, settings),
            config=job.text,
        )
        return Task(spec, replace(context, settings=settings, timing=timing), packed.snapshot)

    def _context(
        self, launch: str, settings: RentalSettings, timing: Timing, home: Path, ledger: Ledger
    ) -> LaunchContext:
        from launchers.lifecycle.opening import open_context

        return open_context(launch, settings, timing, home, ledger)

    def _dry_run(self, job: ComposedJob) -> JobReturn:
        """Print the plan of one job and create nothing; for `launchers estimate`, append it to the file instead."""
        import json

        from launchers.cli.plan_tables import estimate_rows, plan_table
        from launchers.cli.tables import show

        settings, file = self._settings(job), os.environ.get(ESTIMATE_FILE)
        if not file:
            plan, balance, note = self._plan(job)
            show(plan_table(plan))
            if note:
                log.info("%s", note)
            if plan.candidates:
                log.info("%s", plan.expectation(plan.candidates[0]))
            self._say_most([job])
            plan.require(settings.max_cost, balance)
            return finished(job, JobStatus.COMPLETED, None)
        hardware, name = _choice(job, "hardware"), self.descriptor.name
        try:
            self.check_settings(settings, 1)
            plan, _, note = self._plan(job)
            rows = estimate_rows(plan, hardware, name, note)
        except MendInput as error:
            rows = [{"hardware": hardware, "provider": name, "card": settings.gpu, "note": str(error)}]
        with open(file, "a") as rows_file:
            rows_file.writelines(json.dumps(row) + "\n" for row in rows)
        return finished(job, JobStatus.COMPLETED, None)

    def _plan(self, job: ComposedJob) -> tuple[Plan, float | None, str]:
        """The plan of a job, the account's balance, and a note on its prices: without a key they are those of a published list."""
        from launchers.capacity.market import balance_of, need_of, plan_for
        from launchers.errors import NoKey
        from launchers.ledger import launchers_home
        from launchers.planning import forecast, make_plan

        settings = self._settings(job)
        expected = forecast(remote_job.expected_hours(job, settings), settings, self._ledger.losses(_now()))
        # Nothing runs yet: an unreachable provider is asked once.
        once = replace(self._timing(job), retry_total=0.0)
        try:
            context = self._context("dry-run", settings, once, launchers_home(), self._ledger)
        except NoKey as error:
            if self.descriptor.list_prices is None:
                raise
            prices = self.descriptor.list_prices(need_of(settings))
            note = f"{error} These are the list prices of {prices.dated} ({prices.source}); whether a card is free is not known."
            return make_plan(need_of(settings), list(prices.offers), expected), None, note
        return plan_for(context, expected), None if context.places else balance_of(context), ""


def _raise_if_still_billed(scheduler: Scheduler) -> None:
    if scheduler.still_billed:
        raise StillBilled(" ".join(str(error) for error in scheduler.still_billed))


def _job_return(job: ComposedJob, record: JobRecord) -> JobReturn:
    from launchers.job import JobState

    detached = not record.state.ended and record.spec.settings["detach"]
    if record.state is JobState.finished or detached:
        return finished(job, JobStatus.COMPLETED, record.value)
    return failed(
        job, JobNotFinished(f"Job {record.spec.id} is {record.state.value}: {shown(record.note or '').rstrip('.')}.")
    )


def _sweep_return(job: ComposedJob, jobs: SweepJobs, record: JobRecord) -> JobReturn:
    """Of a job that the sweep has paused or pruned, its last value; else what became of it."""
    trial = jobs.sweep.known[job.number]
    if trial.state.counts or trial.state.value == "paused":
        return finished(job, JobStatus.COMPLETED, trial.value)
    return _job_return(job, record)


def _choice(job: ComposedJob, group: str) -> str | None:
    """The option a job takes of a config group."""
    choice = job.config.hydra.runtime.choices.get(group)
    return None if choice is None else str(choice)


def _now() -> float:
    import time

    return time.time()

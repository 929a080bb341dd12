"""A whole launch in virtual time, on the real scheduler, ledger, downloads and deadlines; only the market and its machines are fakes.

`FakeLaunch.run` goes to the end, whatever goes wrong; `broken_promises` compares what is true with what was said.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from launchers.capacity import capacity_for
from launchers.capacity.anywhere import AnywhereCapacity
from launchers.host import Host
from launchers.job import Billing, JobSpec, JobState, MachineStatus
from launchers.ledger import JobRecord, Ledger, MachineRecord
from launchers.lifecycle.attach import attach
from launchers.lifecycle.context import UNDECIDED, LaunchContext, Place
from launchers.lifecycle.scheduler import Scheduler
from launchers.lifecycle.stops import Stops
from launchers.lifecycle.task import Task
from launchers.planning import reserve
from launchers.registry import Parts
from launchers.settings import RentalSettings
from launchers.snapshot import Snapshot
from launchers.testing.clock import VirtualClock
from launchers.testing.computer import Lines, empty_ledger, full_disk
from launchers.testing.faults import CallFault, Faults, TimedFault
from launchers.testing.host import FakeHost
from launchers.testing.jobs import CHECKPOINT, RESULT, Script
from launchers.testing.provider import MARKETS, FakeMachine, FakeProvider
from launchers.testing.settings import SNAPSHOT, TIMING, fake_settings
from launchers.transport.keys import NO_KEYS

TICK_S = 1.0
"""How often the deadlines are looked at, in place of four times a second."""
PRESS_S = 2.0
"""How often a signal is looked for, in place of twenty times a second."""
LOOK_EVERY_S = 5.0
"""How often the newest checkpoint here is looked at."""


@dataclass(frozen=True)
class Schedule:
    """A launch, and what goes wrong in it."""

    market: str = "machines"
    jobs: int = 1
    machines: int = 1
    calls: tuple[CallFault, ...] = ()
    timed: tuple[TimedFault, ...] = ()
    script: Script = field(default_factory=Script)
    settings: dict[str, Any] = field(default_factory=dict)


class FakeLaunch:
    """One launch in a folder of its own."""

    def __init__(self, folder: Path, schedule: Schedule, clock: VirtualClock) -> None:
        self.clock, self.schedule = clock, schedule
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "ledger.sqlite").write_bytes(empty_ledger())
        self.faults = Faults(clock.now, schedule.calls, schedule.timed)
        self.providers = {kind.name: kind(clock, self.faults) for kind in MARKETS[schedule.market]}
        self.ledger = Ledger(folder / "ledger.sqlite", durable=False)
        self.settings = fake_settings(machines=schedule.machines, **schedule.settings)
        self.said: list[str] = []
        """Every line of the log, as the user reads it."""
        self.problems: list[str] = []
        """Promises that were broken on the way."""
        self.first_ends: list[JobState] = []
        """Of the jobs, when the first command ended."""
        self.exit_code = 0
        self._stops = Stops()
        self._newest: dict[str, int] = {}
        self._looked: dict[str, object] = {}
        """What the file of the newest checkpoint was when it was last read."""
        self.context = self._context()
        self.jobs = [self._job(number) for number in range(schedule.jobs)]
        for job in self.jobs:
            for provider in self.providers.values():
                provider.scripts[job.id] = schedule.script
        self.ledger.add_launch("launch", str(folder), self.jobs, clock.now())

    @property
    def machines(self) -> list[FakeMachine]:
        """All that were ever rented."""
        return [machine for provider in self.providers.values() for machine in provider.machines]

    def living(self) -> list[FakeMachine]:
        """What is billed now."""
        return [machine for provider in self.providers.values() for machine in provider.living()]

    @property
    def provider(self) -> FakeProvider:
        """The first market, which is the only one of most launches."""
        return next(iter(self.providers.values()))

    def records(self) -> list[JobRecord]:
        return self.ledger.jobs("launch")

    def local_step(self, job: JobSpec) -> int:
        """Of the newest checkpoint here."""
        with contextlib.suppress(OSError, ValueError):
            return int(json.loads((job.home / CHECKPOINT).read_text())["step"])
        return 0

    def run(self) -> FakeLaunch:
        """From the start to the end of the command."""
        tasks = [Task(job, self.context, SNAPSHOT) for job in self.jobs]
        for fault in self.schedule.timed:
            self._plan(fault)
        self._look()
        self._end_of_command(lambda: self._scheduler(tasks).run())
        self.first_ends = [record.state for record in self.records()]
        return self

    def is_open(self) -> bool:
        """Whether it left something to a later command."""
        return bool(self.living()) or any(not record.state.ended for record in self.records())

    def attach(self, later: float = 10.0) -> FakeLaunch:
        """Another command, when all trouble is over: it takes up what the first one left."""
        self.faults.calls, self.faults.timed = (), ()
        self._set_triggers(False)
        self.clock.sleep(later)
        for machine in self.machines:
            machine.silent_until = 0.0
        self._stops, self.context = Stops(), self._context()
        open_jobs = {record.spec.id for record in self.records() if not record.state.ended}
        tasks = [Task(job, self.context, SNAPSHOT) for job in self.jobs if job.id in open_jobs]

        self._end_of_command(lambda: attach(self.context, tasks, self.schedule.machines, False, self._stops))
        return self

    # --- how it is put together

    def _context(self) -> LaunchContext:
        places = {
            name: Place(provider, capacity_for(provider, self._open_host)) for name, provider in self.providers.items()
        }
        [first, *others] = places.values()
        launch = LaunchContext(
            "launch",
            first.provider,
            self.ledger,
            self.settings,
            TIMING,
            self.folder,
            NO_KEYS,
            first.capacity,
            self.clock,
        )
        if not others:
            return launch
        capacity = AnywhereCapacity([place.capacity for place in places.values()])
        return replace(launch, provider=UNDECIDED, capacity=capacity, places=places, split=self._split)

    def _split(self, settings: RentalSettings) -> Parts:
        return Parts({name: replace(settings, name=name) for name in self.providers}, {})

    def _job(self, number: int) -> JobSpec:
        return JobSpec(
            id=f"launch-{number}", number=number, folder=str(self.folder / f"job-{number}"), entry_point="app", overrides=(),
            snapshot=SNAPSHOT.digest, settings=vars(self.settings).copy(), timing=vars(TIMING), hours=self.settings.max_hours,
        )  # fmt: skip

    def _scheduler(self, tasks: list[Task]) -> Scheduler:
        return Scheduler(tasks, self.schedule.machines, False, stops=self._stops)

    def _open_host(self, context: LaunchContext, record: MachineRecord, status: MachineStatus) -> Host:
        provider = self.providers[record.provider]
        machine = next(m for m in provider.machines if m.id == record.instance)
        return _Watched(provider, machine, self)

    def _end_of_command(self, command: Any) -> None:
        logger = logging.getLogger("launchers")
        handler = Lines(self.said)
        before, logger.propagate = logger.propagate, False
        logger.addHandler(handler)
        ticks = (
            patch("launchers.lifecycle.deadlines.TICK_S", TICK_S),
            patch("launchers.lifecycle.stops.TICK_S", PRESS_S),
        )
        try:
            with ticks[0], ticks[1], full_disk(self.faults), contextlib.redirect_stdout(io.StringIO()):
                command()
        except SystemExit as error:
            self.exit_code = int(error.code or 0)
        except _Killed:
            self.exit_code = 137
            self.clock.kill_threads()
        finally:
            logger.removeHandler(handler)
            logger.propagate = before

    # --- what goes wrong

    def _at(self, when: float, act: Callable[[], object]) -> None:
        """Unless the trouble is over by then."""
        self.clock.call_at(when, lambda: act() if self.faults.timed else None)

    def _plan(self, fault: TimedFault) -> None:
        start, end = self.faults.began + fault.after, self.faults.began + fault.after + fault.seconds
        if fault.kind == "interrupt":
            self._at(start, lambda: self._stops.note(signal.SIGINT))
        elif fault.kind == "terminate":
            self._at(start, lambda: self._stops.note(signal.SIGTERM))
        elif fault.kind == "cancel":
            self._at(start, self._cancel)
        elif fault.kind == "ledger refuses":
            self._at(start, lambda: self._set_triggers(True))
            self._at(end, lambda: self._set_triggers(False))
        elif fault.kind == "client killed":
            self._at(start, lambda: self.clock.interrupt(_Killed()))
        elif fault.kind in ("preempted", "host lost", "silent"):
            self._at(start, lambda: self._strike_machine(fault.kind, start, end))

    def _cancel(self) -> None:
        """As another command asks for it, which says so where the ledger refuses."""
        with contextlib.suppress(sqlite3.Error):
            self.ledger.request_cancel(self.jobs[0].id)

    def _strike_machine(self, kind: str, now: float, end: float) -> None:
        up = [machine for machine in self.living() if machine.is_up(now) and machine.offer.charging.while_idle]
        if up and kind == "preempted":
            up[0].pause(now)
        elif up and kind == "host lost":
            up[0].end(now)
        elif up:
            up[0].silent_until = end

    def _set_triggers(self, on: bool) -> None:
        """Every write to the ledger is refused, as by a full disk, by means of the database itself."""
        with self.ledger.transaction() as db:
            for number, event in enumerate(
                ("UPDATE ON jobs", "UPDATE ON machines", "INSERT ON machines", "INSERT ON events")
            ):
                body = f"BEFORE {event} BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
                db.execute(
                    f"CREATE TRIGGER IF NOT EXISTS full_{number} {body}"
                    if on
                    else f"DROP TRIGGER IF EXISTS full_{number}"
                )

    # --- what must be true

    def _look(self) -> None:
        """A checkpoint that was here once stays, or a newer one takes its place."""
        for job in self.jobs:
            mark = self._mark(job)
            if mark == self._looked.get(job.id, 0):
                continue
            self._looked[job.id] = mark
            step = self.local_step(job)
            if step < self._newest.get(job.id, 0):
                self.problems.append(f"{job.id}: the checkpoint here went from step {self._newest[job.id]} to {step}")
            self._newest[job.id] = max(step, self._newest.get(job.id, 0))
        self.clock.call_at(self.clock.now() + LOOK_EVERY_S, self._look)

    def _mark(self, job: JobSpec) -> object:
        """What tells whether its checkpoint here is another one than before; None without one."""
        try:
            info = os.stat(job.home / CHECKPOINT)
        except OSError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size

    def note_start(self, machine: FakeMachine, job: JobSpec) -> None:
        """A job starts on a machine."""
        record = self.ledger.job(job.id)
        if record.state.ended:
            self.problems.append(f"{job.id} is {record.state} and starts again on {machine.label}")
        if (job.home / RESULT).exists():
            self.problems.append(f"{job.id} starts again on {machine.label}, and its result is here")
        step = machine.started[-1][2]
        if step < self.local_step(job):
            self.problems.append(
                f"{job.id} starts at step {step}, and the checkpoint here is of step {self.local_step(job)}"
            )

    def broken_promises(self) -> list[str]:
        """Of the four: nothing is billed in silence, no checkpoint is lost, nothing is run twice, no cap is passed."""
        self._look()
        said = "\n".join(self.said)
        problems = [*self.problems, *self._beyond_caps()]
        machines = {record.label: record for record in self.ledger.machines("launch")}
        left_running = "Detached. " in said or "jobs keep running without this client" in said
        for machine in self.living():
            is_named = any(name in said for name in (f"instance {machine.id} ", f"create {machine.label} "))
            of_jobs = left_running and any(job.is_running(self.clock.now()) for job in machine.jobs.values())
            warned = "BILLED" in said or "reap" in said
            if (
                not (is_named and warned)
                and not of_jobs
                and machine.offer.charging.while_idle
                and self.exit_code != 137
            ):
                problems.append(f"{machine.label} ({machine.id}) is billed, and nobody says so")
            rented = machines.get(machine.label)
            if rented is not None and rented.billing is Billing.gone:
                problems.append(f"{machine.label} ({machine.id}) is billed, and the ledger says that it is gone")
        ours_failed = any(fault.kind == "ledger refuses" for fault in self.schedule.timed)
        for record in self.records():
            kept = "NOT DOWNLOADED" in said or "was kept" in said
            if not record.state.ended and not (kept or left_running or ours_failed or self.exit_code == 137):
                problems.append(f"{record.spec.id} is {record.state} at the end")
            if record.state is JobState.finished and self.local_step(record.spec) < self.schedule.script.steps:
                problems.append(f"{record.spec.id} is finished, and its last checkpoint is not here")
        if "Internal error in launchers" in said:
            problems.append("a mistake in the launchers: " + said.partition("Internal error in launchers")[2][:2000])
        return problems

    def broken_promises_of_attach(self) -> list[str]:
        """When all trouble is over, nothing stays billed, and every job has an end."""
        problems = [f"{m.label} ({m.id}) is billed after attach" for m in self.living()]
        problems += [f"{r.spec.id} is {r.state} after attach" for r in self.records() if not r.state.ended]
        return problems + self.problems + list(self._miscounted())

    def _miscounted(self) -> Iterator[str]:
        """What jobs were charged against what their machines really cost; not where the meter could not be written."""
        if any(fault.kind == "ledger refuses" for fault in self.schedule.timed) or self.schedule.market == "serverless":
            return
        known = {record.label: record for record in self.ledger.machines("launch") if record.instance is not None}
        machines = [machine for machine in self.machines if machine.label in known]
        if any(known[machine.label].price != machine.price for machine in machines):
            return
        true = sum(machine.billed_s(self.clock.now()) * machine.price / 3600 for machine in machines)
        slack = sum((2 * TIMING.poll + 10.0) * machine.price / 3600 for machine in machines)
        charged = sum(record.cost for record in self.records())
        if charged > true + slack:
            yield f"jobs were charged ${charged:.5f}, their machines cost ${true:.5f}"

    def broken_promise_of_ours(self) -> list[str]:
        """Trouble of this computer, and short trouble of the connection, never cost a job: at the latest `attach` brings it home."""
        short = all(
            fault.kind in ("unreachable", "breaks", "slow") and fault.times < 3 for fault in self.schedule.calls
        )
        ours = all(fault.kind in ("disk full", "ledger refuses") for fault in self.schedule.timed)
        script = self.schedule.script
        if (
            not (short and ours)
            or self.schedule.settings
            or script.crashes_at is not None
            or script.hangs_at is not None
        ):
            return []
        return [f"{r.spec.id} is {r.state} ({r.note})" for r in self.records() if r.state is not JobState.finished]

    def _beyond_caps(self) -> Iterator[str]:
        """Machines whose end was asked for too late, by more than one poll and what saving and downloading may take."""
        slack = reserve(TIMING) + TIMING.poll + 2.0
        for job in self.jobs:
            mine = [m for m in self.machines if job.id in m.jobs and m.offer.charging.while_idle and len(m.jobs) == 1]
            spans = [(m, (m.destroy_asked or m.ended or self.clock.now()) - m.created) for m in mine]
            seconds = sum(span for _, span in spans)
            if seconds > self.settings.max_hours * 3600 + slack * len(mine):
                yield f"{job.id} had {seconds:.0f} s of machines, provider.max_hours is {self.settings.max_hours * 3600:.0f} s"
            cost = sum(span / 3600 * m.price for m, span in spans)
            over = sum(slack / 3600 * m.price for m in mine)
            if self.settings.max_cost is not None and cost > self.settings.max_cost + over:
                yield f"{job.id} cost ${cost:.4f}, provider.max_cost is ${self.settings.max_cost:.4f}"

    def close(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Killed(BaseException):
    """The process of the client ends here, and nothing of it runs any more."""


class _Watched(FakeHost):
    """Tells the launch of each start, at the moment when it happens."""

    def __init__(self, provider: FakeProvider, machine: FakeMachine, launch: FakeLaunch) -> None:
        super().__init__(provider, machine)
        self._launch = launch

    def start(
        self, job: JobSpec, python: str, snapshot: Snapshot, secrets: dict[str, str], facts: dict[str, str], grace: float
    ) -> None:  # fmt: skip
        before = len(self.machine.started)
        try:
            super().start(job, python, snapshot, secrets, facts, grace)
        finally:
            if len(self.machine.started) > before:
                self._launch.note_start(self.machine, job)

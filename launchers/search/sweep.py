"""A sweep in progress: hands out the next job when it is asked, takes reports and ends, and writes each change down first."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

from launchers.errors import MendInput
from launchers.search import pruning
from launchers.search.budget import Budget, Spent
from launchers.search.fingerprint import Fingerprint
from launchers.search.meter import Meter, nothing_billed
from launchers.search.points import Points
from launchers.search.pruning import Verdict
from launchers.search.sentences import price_text, said_finished
from launchers.search.settings import PrunerName, SweepSettings
from launchers.search.trials import Trial, Trials, TrialState

log = logging.getLogger("launchers")
Composed = TypeVar("Composed")
DUPLICATES = 30
"""After so many points in a row that were there before, the space is taken as exhausted."""


@dataclass(frozen=True)
class Prepared(Generic[Composed]):
    """A composed job before it has a number."""

    fingerprint: Fingerprint
    job: Composed
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Assigned(Generic[Composed]):
    """A job that is handed out."""

    trial: Trial
    prepared: Prepared[Composed]


@dataclass
class Sweep(Generic[Composed]):
    """Thread-safe; `prepare` composes the job of a point and seed, `place` gives it its
    number, and says which folder it has."""

    folder: str
    settings: SweepSettings
    points: Points
    trials: Trials
    prepare: Callable[[dict[str, str], int | None], Prepared[Composed]]
    place: Callable[[int, Prepared[Composed]], tuple[Prepared[Composed], str]]
    first_seed: int = 0
    now: Callable[[], float] = time.time
    meter: Meter = nothing_billed
    known: dict[int, Trial] = field(default_factory=dict)
    executed: set[int] = field(default_factory=set)
    """Numbers of the trials that this start ran."""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._began = self.now()
        self._queue: deque[Assigned[Composed]] = deque()
        self._verdicts: dict[int, Verdict] = {}
        self._to_the_end: set[int] = set()
        self._next_point = 0
        self._duplicates = 0
        self._told_why: str | None = None
        self._budget = Budget(self.settings.max_cost, self.settings.max_hours, self.settings.max_jobs)
        self.restored = self._restore()

    # --- what an earlier start has left

    def _restore(self) -> int:
        """Take up the trials of earlier starts; returns how many of them have a result."""
        rows = [row for row in self.trials.of(self.folder) if Path(row.folder).is_dir()]
        if self.settings.searches:
            self._restore_search(rows)
        else:
            self._list(rows)
        results = [trial for trial in self.known.values() if trial.state.counts]
        if not self.settings.accept_changes:
            self._refuse_changes(results)
        return len(results)

    def _list(self, rows: list[Trial]) -> None:
        """All jobs of a grid, those that are known by their fingerprint in their folders."""
        by_config = {row.fingerprint: row for row in rows}
        candidates: list[tuple[int, int | None, dict[str, str], Prepared[Composed]]] = []
        for point in range(self.points.total):
            params = self.points.ask(point)
            candidates += [(point, seed, params, self.prepare(params, seed)) for seed in self._seeds()]
        configs = [prepared.fingerprint.config for *_, prepared in candidates]
        if rows and not set(configs) & set(by_config):
            raise MendInput(
                f"{self.folder} holds another sweep, of which no job is one of these: name another folder with hydra.sweep.dir=."
            )
        free = self._free_numbers(rows)
        for point, seed, params, prepared in candidates:
            row = by_config.get(prepared.fingerprint.config)
            if row is not None and row.number not in self.known:
                trial = replace(row, point=point, seed=seed, params=params)
            else:
                trial = self._trial(next(free), point, seed, params, prepared)
            self.known[trial.number] = trial
            if not trial.state.counts and not (trial.state is TrialState.paused and self._pauses):
                self._queue.append(Assigned(trial, prepared))
        self._next_point = self.points.total

    def _restore_search(self, rows: list[Trial]) -> None:
        for row in rows:
            prepared = self.prepare(row.params, row.seed)
            if prepared.fingerprint.config != row.fingerprint:
                raise MendInput(
                    f"{self.folder} holds another sweep: its job {row.number} was composed with other settings than these. "
                    "Repeat its command as it was (resume=<that folder>), or name another folder with hydra.sweep.dir=."
                )
            self.known[row.number] = row
            if not row.state.counts and not (row.state is TrialState.paused and self._pauses):
                self._queue.append(Assigned(row, prepared))
        self._next_point = 1 + max((row.point for row in rows), default=-1)
        for point in range(self._next_point):
            of_point = [row for row in rows if row.point == point]
            ended = bool(of_point) and all(row.state.counts for row in of_point)
            params = of_point[0].params if of_point else None
            self.points.restore(point, params, self._mean(point) if ended else None, ended or not of_point)
            if of_point:
                there = {row.seed for row in of_point}
                for seed in self._seeds():
                    if seed not in there:
                        self._enqueue(point, seed, of_point[0].params)

    def _refuse_changes(self, results: list[Trial]) -> None:
        if not results:
            return
        prepared = self.prepare(results[0].params, results[0].seed).fingerprint
        for what, now in (("code", prepared.code), ("data", prepared.data)):
            others = [trial for trial in results if getattr(trial, what) != now]
            if what == "data":
                digests = [(t, self.prepare(t.params, t.seed).fingerprint.data) for t in others]
                others = [t for t, digest in digests if t.data and digest and digest != t.data]  # "" is not known
            if others:
                raise MendInput(
                    f"The {what} has changed since {len(others)} job(s) of {self.folder} ended: their results would be mixed with "
                    "new ones. Add hydra.sweeper.accept_changes=true to mix them, or name another folder with hydra.sweep.dir=."
                )

    def waiting(self) -> list[tuple[Trial, Prepared[Composed]]]:
        """The jobs that are known and have not begun."""
        with self._lock:
            return [(assigned.trial, assigned.prepared) for assigned in self._queue]

    # --- what runs next

    def next(self, accepts: Callable[[Composed], bool] = lambda job: True) -> Assigned[Composed] | None:
        """The next job; None when there is none now."""
        with self._lock:
            why = self._budget.why_no_more(self.spent())
            if why is not None:
                if self._told_why is None:
                    self._told_why = why
                    log.info("No further job begins: %s.", why)
                return None
            assigned = self._queued(accepts) or self._resumed() or self._new() or self._best_paused()
            if assigned is None:
                return None
            prepared, _ = self.place(assigned.trial.number, assigned.prepared)
            trial = self._put(replace(assigned.trial, state=TrialState.running, note=None))
            self.executed.add(trial.number)
            return Assigned(trial, prepared)

    def _queued(self, accepts: Callable[[Composed], bool]) -> Assigned[Composed] | None:
        for assigned in self._queue:
            if accepts(assigned.prepared.job):
                self._queue.remove(assigned)
                return assigned
        return None

    @property
    def _pauses(self) -> bool:
        return self.settings.pruner == PrunerName.asha

    def _resumed(self) -> Assigned[Composed] | None:
        """The paused job that deserves a machine most, and what its next rung costs."""
        if not self._pauses:
            return None
        number = self._to_resume()
        if number is None:
            return None
        trial = self.known[number]
        settings = self.settings
        more = pruning.resumed_at(len(trial.reports), settings.min_resource, settings.reduction_factor)
        log.info(
            "job %d resumes: it is among the best of its rung; up to %d more validations, %s.",
            number,
            more,
            price_text(more, self.known.values()),
        )
        return Assigned(trial, self.prepare(trial.params, trial.seed))

    def _best_paused(self) -> Assigned[Composed] | None:
        """The best job of a search that has come to its end, which then runs to its own."""
        number = self._to_finish()
        if number is None or any(trial.state is TrialState.running for trial in self.known.values()):
            return None
        trial = self.known[number]
        self._to_the_end.add(number)
        log.info("job %d resumes: it is the best of all, and runs to its end.", number)
        return Assigned(trial, self.prepare(trial.params, trial.seed))

    def _new(self) -> Assigned[Composed] | None:
        while not self._queue and self._next_point < self.points.total and self._duplicates < DUPLICATES:
            point = self._next_point
            self._next_point += 1
            params = self.points.ask(point)
            for seed in self._seeds():
                self._enqueue(point, seed, params)
        return self._queue.popleft() if self._queue else None

    def _enqueue(self, point: int, seed: int | None, params: dict[str, str]) -> None:
        prepared = self.prepare(params, seed)
        same = next((t for t in self.known.values() if t.fingerprint == prepared.fingerprint.config), None)
        if same is not None:
            # A result that is here is not paid for again; the study learns the same of it.
            self._duplicates += 1
            self.points.tell(point, same.value if same.state.counts else None, params)
            return
        self._duplicates = 0
        trial = self._trial(next(self._free_numbers(self.known.values())), point, seed, params, prepared)
        self.known[trial.number] = trial
        self._queue.append(Assigned(trial, prepared))

    def _trial(
        self, number: int, point: int, seed: int | None, params: dict[str, str], prepared: Prepared[Composed]
    ) -> Trial:
        found = prepared.fingerprint
        _, folder = self.place(number, prepared)
        return Trial(self.folder, number, point, found.config, found.code, found.data, params, folder, seed)

    def _free_numbers(self, rows: Iterable[Trial]) -> Iterator[int]:
        """Numbers whose folders no other parameters have claimed."""
        taken = {row.number for row in rows}
        home = Path(self.folder)
        if home.is_dir():
            taken |= {int(path.name) for path in home.iterdir() if path.name.isdigit()}
        number = 0
        while True:
            if number not in taken and number not in self.known:
                yield number
            number += 1

    def _seeds(self) -> Sequence[int | None]:
        if self.settings.seeds == 1:
            return [None]
        return range(self.first_seed, self.first_seed + self.settings.seeds)

    # --- what runs

    def put_back(self, number: int, prepared: Prepared[Composed]) -> None:
        """A job that lost its machine, or found none: it is the next one that is handed out."""
        with self._lock:
            trial = self._put(replace(self.known[number], state=TrialState.waiting))
            self._queue.appendleft(Assigned(trial, prepared))

    def note_job(self, number: int, job: str) -> None:
        """The name under which the ledger keeps what runs a trial."""
        with self._lock:
            self._put(replace(self.known[number], job=job))

    def report(self, number: int, step: int, value: float) -> bool:
        """Take a value that a running job has measured; returns whether the job should save and end."""
        with self._lock:
            trial = self.known[number]
            if math.isfinite(value):
                new = trial.with_report(step, value)
                if new is not trial:
                    self._put(new)
                    verdict = self._verdict(number)
                    if verdict is not Verdict.go_on:
                        self._verdicts[number] = verdict
            return number in self._verdicts

    def _verdict(self, number: int) -> Verdict:
        curves, settings = self._curves(), self.settings
        least, factor = settings.min_resource, settings.reduction_factor
        # the baseline is what the gain of a search is measured against
        is_baseline = settings.baseline and self.known[number].point == 0
        if number in self._to_the_end or is_baseline:
            return Verdict.go_on
        if settings.pruner == PrunerName.asha and not pruning.halving(curves, number, least, factor):
            return Verdict.pause
        if settings.pruner == PrunerName.halving and not pruning.halving_or_first(curves, number, least, factor):
            return Verdict.end
        if settings.pruner == PrunerName.median and not pruning.median(curves, number, least):
            return Verdict.end
        return Verdict.go_on

    def ended(
        self, number: int, state: TrialState, value: float | None = None, *, cost: float = 0.0, seconds: float = 0.0,
        note: str | None = None,
    ) -> Trial:  # fmt: skip
        """A job has ended: `stopped` where it was asked to. `cost` and `seconds` are those since it was handed out."""
        with self._lock:
            trial, verdict = self.known[number], self._verdicts.pop(number, None)
            if state is TrialState.stopped and verdict is not None:
                state = TrialState.paused if verdict is Verdict.pause else TrialState.pruned
                last = trial.reports[-1]
                value = last[1]
                note = f"after {len(trial.reports)} validation(s), step {last[0]}"
                log.info("job %d is %s %s: %.4g", number, state.value, note, value)
            value = None if value is None or not math.isfinite(value) else float(value)
            trial = self._put(
                replace(trial, state=state, value=value, cost=trial.cost + cost, seconds=trial.seconds + seconds, note=note)
            )  # fmt: skip
            self._tell(trial.point)
            if trial.state is TrialState.finished:
                log.info(said_finished(trial, self.known.values(), self.settings))
            return trial

    def _tell(self, point: int) -> None:
        """Tell the study once all seeds of a point have ended; a paused one is worth what it has shown."""
        there = [trial for trial in self.known.values() if trial.point == point]
        if all(t.state.counts or t.state in (TrialState.paused, TrialState.failed) for t in there):
            self.points.tell(point, self._mean(point), there[0].params)

    def _mean(self, point: int) -> float | None:
        values = [t.value for t in self.known.values() if t.point == point and t.value is not None]
        return sum(values) / len(values) if values else None

    # --- the whole

    def spent(self) -> Spent:
        ended = sum(trial.cost for trial in self.known.values())
        begun = sum(1 for t in self.known.values() if t.state is not TrialState.waiting)
        return Spent(
            ended + sum(bill.dollars for bill in self.meter().values()), (self.now() - self._began) / 3600, begun
        )

    def why_stop(self) -> str | None:
        """Why everything that runs should save and end."""
        with self._lock:
            return self._budget.why_stop(self.spent())

    def is_over(self) -> bool:
        """Whether no job will ever come again, whatever those that run now bring."""
        with self._lock:
            if self._budget.why_no_more(self.spent()) is not None:
                return True
            if self._queue or (self._next_point < self.points.total and self._duplicates < DUPLICATES):
                return False
            running = any(trial.state is TrialState.running for trial in self.known.values())
            return not (self._pauses and running) and self._to_resume() is None and self._to_finish() is None

    def _paused(self) -> list[int]:
        return [trial.number for trial in self.known.values() if trial.state is TrialState.paused]

    def _to_resume(self) -> int | None:
        settings = self.settings
        return pruning.to_resume(self._curves(), self._paused(), settings.min_resource, settings.reduction_factor)

    def _to_finish(self) -> int | None:
        better = self.settings.better
        values = {number: better * trial.value for number, trial in self.known.items() if trial.value is not None}
        return pruning.to_finish(values, self._paused()) if self._pauses else None

    def close(self) -> list[Trial]:
        """The end of this start: what was never resumed counts as pruned, unless the budget ended the sweep."""
        with self._lock:
            if self._pauses and self.is_over() and self._told_why is None:
                for trial in [t for t in self.known.values() if t.state is TrialState.paused]:
                    self._put(replace(trial, state=TrialState.pruned))
            return self.all()

    def all(self) -> list[Trial]:
        """In the order of their numbers."""
        with self._lock:
            return [self.known[number] for number in sorted(self.known)]

    def _curves(self) -> dict[int, list[float]]:
        """Values at validations, higher is better."""
        better = self.settings.better
        return {number: [better * value for _, value in trial.reports] for number, trial in self.known.items()}

    def _put(self, trial: Trial) -> Trial:
        self.trials.put(trial)
        self.known[trial.number] = trial
        return trial

"""What the ledger says of a sweep's rented jobs: those that a dead client left are followed to their end and read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launchers.job import Outcome
from launchers.search.trials import Trial, Trials, TrialState

if TYPE_CHECKING:
    from launchers.dispatch import ComposedJob
    from launchers.ledger import JobRecord, Ledger
    from launchers.search.jobs import SweepJobs

log = logging.getLogger("launchers")
_STATES = {Outcome.finished: TrialState.finished, Outcome.failed: TrialState.failed}
"""What a job's end is to the sweep; every other end leaves something to continue."""


def state_of(outcome: Outcome) -> TrialState:
    """How far a trial is whose job is this far."""
    return _STATES.get(outcome, TrialState.stopped if outcome.ended else TrialState.running)


def newest(records: Sequence[JobRecord], folder: str) -> JobRecord | None:
    """The last job that ran in a folder; ids begin with the time of their launch."""
    there = [record for record in records if record.spec.folder == folder]
    return max(there, key=lambda record: (record.started or 0.0, record.launch), default=None)


def put_records(jobs: SweepJobs, handed: Sequence[ComposedJob], records: Sequence[JobRecord]) -> None:
    """Tell the sweep how jobs ended that a launch has run."""
    for job in handed:
        record = newest(records, str(job.folder))
        if record is None:  # a dry run begins nothing
            jobs.ended(job, TrialState.stopped, seconds=0.0, note="not started")
            continue
        jobs.sweep.note_job(job.number, record.spec.id)
        jobs.ended(
            job, state_of(record.outcome), record.value, cost=record.cost, seconds=record.seconds, note=record.note
        )


def reconnect(trials: Trials, sweep: str, ledger: Ledger) -> None:
    """Follow the launches that a dead client of this sweep has left, and take over how their jobs ended.

    Raises:
        MendInput: another client on this machine follows one of them.
        StillBilled: a machine of theirs could not be confirmed gone.
    """
    running = [trial for trial in trials.of(sweep) if trial.state is TrialState.running]
    if not running:
        return
    launches = dict.fromkeys(
        record.launch
        for trial in running
        if (record := newest(ledger.jobs(), trial.folder)) is not None and not record.outcome.ended
    )
    for launch in launches:
        from launchers.cli.jobs import take_up

        log.info("Launch %s of this sweep still runs: reconnecting to it.", launch)
        take_up(ledger, launch, False)
    for trial in running:
        record = newest(ledger.jobs(), trial.folder)
        if record is not None and record.spec.id != trial.job:
            trials.put(_settled(trial, record))


def _settled(trial: Trial, record: JobRecord) -> Trial:
    value: Any = record.value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return replace(
        trial, state=state_of(record.outcome), value=number, job=record.spec.id, note=record.note,
        cost=trial.cost + record.cost, seconds=trial.seconds + record.seconds,
    )  # fmt: skip

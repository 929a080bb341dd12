"""What the ledger says of a sweep's rented jobs: those that a dead client left are followed to their end and read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launchers.job import JobState
from launchers.search.trials import Trial, Trials, TrialState

if TYPE_CHECKING:
    from launchers.ledger import JobRecord, Ledger

log = logging.getLogger("launchers")
_STATES = {JobState.finished: TrialState.finished, JobState.failed: TrialState.failed}
"""What a job's end is to the sweep; every other end leaves something to continue."""


def state_of(state: JobState) -> TrialState:
    """How far a trial is whose job is this far."""
    return _STATES.get(state, TrialState.stopped if state.ended else TrialState.running)


def newest(records: Sequence[JobRecord], folder: str) -> JobRecord | None:
    """The last job that ran in a folder; ids begin with the time of their launch."""
    there = [record for record in records if record.spec.folder == folder]
    return max(there, key=lambda record: (record.started or 0.0, record.launch), default=None)


def reconnect(trials: Trials, sweep: str, ledger: Ledger) -> None:
    """Follow the launches that a dead client of this sweep has left, and take over how their jobs ended.

    Raises:
        MendInput: another client on this machine follows one of them.
        StillBilled: a machine of theirs could not be confirmed gone.
    """
    running = [trial for trial in trials.of(sweep) if trial.state is TrialState.running]
    if not running:
        return
    records = ledger.jobs()
    launches = dict.fromkeys(
        record.launch
        for trial in running
        if (record := newest(records, trial.folder)) is not None and not record.state.ended
    )
    for launch in launches:
        from launchers.cli.jobs import take_up

        log.info("Launch %s of this sweep still runs: reconnecting to it.", launch)
        take_up(ledger, launch, False)
    records = ledger.jobs()
    for trial in running:
        record = newest(records, trial.folder)
        if record is not None and record.spec.id != trial.job:
            trials.put(_settled(trial, record))


def _settled(trial: Trial, record: JobRecord) -> Trial:
    value: Any = record.value
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
    return replace(
        trial, state=state_of(record.state), value=number, job=record.spec.id, note=record.note,
        cost=trial.cost + record.cost, seconds=trial.seconds + record.seconds,
    )  # fmt: skip

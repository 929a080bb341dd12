"""Which state of a job or a machine may follow which: pure, and asked by every method of the ledger that changes one."""

from __future__ import annotations

from launchers.job import Billing, JobState

_ENDS = frozenset(state for state in JobState if state.ended)
JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # waiting again: it lost a machine that never came up
    JobState.waiting: frozenset({JobState.waiting, JobState.running}) | _ENDS,
    # running again: it was started again on the machine that it is on
    JobState.running: frozenset({JobState.waiting, JobState.running}) | _ENDS,
    **{state: frozenset() for state in _ENDS},
}
BILLING_TRANSITIONS: dict[Billing, frozenset[Billing]] = {
    Billing.intended: frozenset({Billing.active, Billing.unconfirmed, Billing.gone}),
    Billing.active: frozenset({Billing.active, Billing.unconfirmed, Billing.gone}),
    Billing.unconfirmed: frozenset({Billing.active, Billing.unconfirmed, Billing.gone}),
    Billing.gone: frozenset({Billing.gone}),
}


class IllegalTransition(AssertionError):
    """A bug in launchers. It must never keep a machine from being destroyed."""


def check_job(job: str, before: JobState, after: JobState) -> None:
    """
    Raises:
        IllegalTransition: such a job can't become that.
    """
    if after not in JOB_TRANSITIONS[before]:
        raise IllegalTransition(f"job {job} is {before} and can't become {after}")


def check_billing(label: str, before: Billing, after: Billing) -> None:
    """
    Raises:
        IllegalTransition: such a machine can't become that.
    """
    if after not in BILLING_TRANSITIONS[before]:
        raise IllegalTransition(f"machine {label} is {before} and can't become {after}")

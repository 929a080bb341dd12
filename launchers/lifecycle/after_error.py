"""What to do after an error: one pure function of the error, the facts of the job, and its settings.

An error ends one of three stages, and what the inner one passes on is an error of the outer one: a lease is acquired (`acquiring`),
something is asked of what the job runs on (`calling`), and around both one attempt to run the job (`attempt`). Nothing else in the
launch core decides by the class of an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from launchers.errors import (
    BadMachine,
    Cancelled,
    Capped,
    LaunchError,
    MendInput,
    NoOffer,
    OfferTaken,
    Preempted,
    RetryLater,
    SetupFailed,
    StillBilled,
    Unreachable,
)
from launchers.job import JobState
from launchers.lifecycle.deadlines import Phase
from launchers.lifecycle.ended import Ended
from launchers.settings import RentalSettings

HOLDS_RESULTS = (Phase.running, Phase.syncing, Phase.fetching)
SETUPS = 2
"""After so many machines on which the packages could not be installed, the project is at fault and not the machines."""


class Detached(Exception):
    """The job runs, and this client need not stay."""


class Stage(Enum):
    """What the error ended."""

    acquiring = "one try to get a lease"
    calling = "one call to what the job runs on"
    attempt = "one attempt to run the job"


class Act(Enum):
    """What to do."""

    pass_on = "this stage is over, and the error is one of the stage around it"
    try_again = "the same once more, after a pause"
    next_offer = "exclude the offer and try the next one"
    next_host = "exclude the host and try the next offer"
    lose = "give the lease up: it is lost"
    requeue = "the job waits for another lease and resumes there"
    end = "the job has ended"
    detach = "the job runs on without this client"
    retire = "this worker leaves its job to the others"
    keep = "the lease keeps the results until `attach` downloads them"
    leave = "the job is left to `attach`, and this worker ends"


class Fate(Enum):
    """What becomes of the lease."""

    stays = "it takes the next job"
    lost = "it is resumed or released"
    released = "it is released"
    kept = "it is left to the job or its results"
    dropped = "it could not be released, which is said already"


@dataclass(frozen=True)
class Facts:
    """What is known of a job when an error comes."""

    stage: Stage
    phase: Phase | None = None
    """Of the job's lease; None without one."""
    keeps_jobs: bool = False
    """Whether the provider itself moves and restarts jobs; see `launchers.capacity.base.Capacity`."""
    is_silence_over: bool = False
    """Whether it was silent for longer than `timing.unreachable`, while somebody vouched that it runs."""
    started: bool = True
    """Whether the job ever came to a lease."""
    restarts: int = 0
    cost: float = 0.0
    failed_setups: int = 0
    """In this launch, this one included."""
    others_have_leases: bool = False
    """Whether other workers of the launch can do the job."""
    is_stopping: bool = False
    is_over: bool = False
    """Whether the lease is past its deadline and destroyed."""
    can_resume: bool = False
    """Whether the provider pauses what it takes away."""
    folder: str = ""
    proof: Ended | None = None
    """How the job ended, once all its results are here."""


@dataclass(frozen=True)
class Decision:
    """What to do, and how the job ends if it does."""

    act: Act
    fate: Fate = Fate.stays
    state: JobState | None = None
    note: str | None = None
    resumes: bool = False
    """Whether a lost lease is asked for again."""
    blames: bool = False
    """Whether the host of a lost lease is excluded."""


def after_error(error: Exception, facts: Facts, settings: RentalSettings) -> Decision:
    """What to do after an error. Pure."""
    if facts.stage is Stage.acquiring:
        return _after_acquiring(error, facts)
    if facts.stage is Stage.calling:
        return _after_call(error, facts)
    return _after_attempt(error, facts, settings)


def _after_acquiring(error: Exception, facts: Facts) -> Decision:
    if isinstance(error, OfferTaken):
        return Decision(Act.next_offer)
    if isinstance(error, BadMachine | RetryLater):
        # Where the provider places jobs itself, there is no other host to go to.
        return Decision(Act.try_again if facts.keeps_jobs else Act.next_host)
    return Decision(Act.pass_on)


def _after_call(error: Exception, facts: Facts) -> Decision:
    # A running job of a provider that keeps jobs is not ended by an answer about the account.
    is_no_verdict = isinstance(error, MendInput) and facts.keeps_jobs and facts.phase is not Phase.setup
    if not isinstance(error, Unreachable) and not is_no_verdict:
        return Decision(Act.pass_on)
    if not facts.is_silence_over:
        return Decision(Act.try_again)
    return Decision(Act.detach if facts.keeps_jobs else Act.lose)


def _after_attempt(error: Exception, facts: Facts, settings: RentalSettings) -> Decision:
    has_lease = facts.phase is not None
    if isinstance(error, Detached):
        return Decision(Act.detach, Fate.kept)
    if facts.proof is not None:
        return Decision(Act.end, Fate.released, facts.proof.state, facts.proof.note)
    if isinstance(error, Preempted | BadMachine | Unreachable):
        if not has_lease and not facts.started:
            # The market never answered: nothing was lost, and the same again would take as long.
            return Decision(Act.end, state=JobState.failed, note=str(error))
        return _after_loss(error, facts, settings)
    if isinstance(error, Cancelled | Capped):
        state = JobState.cancelled if isinstance(error, Cancelled) else JobState.capped
        if has_lease and facts.is_over:
            note = f"{str(error).rstrip('.')}; what was downloaded until then is in {facts.folder}"
            return Decision(Act.end, Fate.released, state, note)
        return Decision(Act.end, Fate.stays, state, str(error))
    if isinstance(error, StillBilled):
        return Decision(Act.end, Fate.dropped, JobState.failed, str(error))
    if isinstance(error, NoOffer) and not has_lease and facts.others_have_leases:
        return Decision(Act.retire)
    if facts.phase in HOLDS_RESULTS:
        return Decision(Act.keep, Fate.kept)
    if isinstance(error, LaunchError):
        return Decision(Act.end, Fate.stays, JobState.failed, str(error))
    # Trouble of this computer or a mistake of ours says nothing about the job.
    return Decision(Act.leave, Fate.released)


def _after_loss(error: Exception, facts: Facts, settings: RentalSettings) -> Decision:
    """The job goes on elsewhere, within its caps."""
    is_preempted = isinstance(error, Preempted)
    # Outbid, not broken: keep the host where a paused machine can be asked for again.
    blames = facts.phase is not None and not facts.keeps_jobs and not (is_preempted and facts.can_resume)
    state: JobState | None = None
    note: str | None = None
    if isinstance(error, SetupFailed) and facts.failed_setups >= SETUPS:
        state = JobState.failed
        note = f"its environment could not be installed on {facts.failed_setups} machines: {error}"
    elif facts.restarts >= settings.max_restarts:
        state = JobState.lost
        note = (
            f"lost {facts.restarts + 1} machines, provider.max_restarts is {settings.max_restarts}; the last: {error}"
        )
    elif settings.max_cost is not None and facts.cost >= settings.max_cost:
        state, note = JobState.capped, f"provider.max_cost is reached; the last machine was lost: {error}"
    if state is not None:
        return Decision(Act.end, Fate.lost, state, note, blames=blames)
    return Decision(Act.requeue, Fate.lost, resumes=is_preempted and not facts.is_stopping, blames=blames)

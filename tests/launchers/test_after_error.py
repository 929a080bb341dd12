"""What to do after an error, as a table: each row is an error, what is known of the job, and what follows."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from launchers.errors import (
    BadMachine,
    Cancelled,
    Capped,
    CredentialError,
    MendInput,
    NoOffer,
    OfferTaken,
    Preempted,
    RemoteError,
    RetryLater,
    SetupFailed,
    StillBilled,
    Unreachable,
)
from launchers.job import JobState
from launchers.lifecycle.after_error import Act, Decision, Detached, Facts, Fate, Stage, after_error
from launchers.lifecycle.deadlines import Phase
from launchers.lifecycle.ended import Ended
from launchers.testing.settings import fake_settings

SETTINGS = fake_settings(max_restarts=2, max_cost=1.0)


def decide(error: Exception, stage: Stage, **facts: Any) -> Decision:
    return after_error(error, Facts(stage, **facts), SETTINGS)


@pytest.mark.parametrize(
    ("error", "on_machines", "where_jobs_are_kept"),
    [
        (OfferTaken("gone"), Act.next_offer, Act.next_offer),
        (BadMachine("no boot"), Act.next_host, Act.try_again),
        (SetupFailed("no boot"), Act.next_host, Act.try_again),
        (RetryLater("500"), Act.next_host, Act.try_again),
        (Unreachable("silent"), Act.next_host, Act.try_again),
        (CredentialError("refused"), Act.pass_on, Act.pass_on),
        (NoOffer("none"), Act.pass_on, Act.pass_on),
        (Cancelled("stop"), Act.pass_on, Act.pass_on),
        (Capped("cap"), Act.pass_on, Act.pass_on),
        (StillBilled("look"), Act.pass_on, Act.pass_on),
        (sqlite3.OperationalError("disk is full"), Act.pass_on, Act.pass_on),
        (KeyError("mistake"), Act.pass_on, Act.pass_on),
    ],
)
def test_while_a_lease_is_acquired(error: Exception, on_machines: Act, where_jobs_are_kept: Act):
    assert decide(error, Stage.acquiring).act is on_machines
    assert decide(error, Stage.acquiring, keeps_jobs=True).act is where_jobs_are_kept


@pytest.mark.parametrize(
    ("error", "facts", "act"),
    [
        (Unreachable("cut"), {}, Act.try_again),
        (Unreachable("cut"), {"is_silence_over": True}, Act.lose),
        (Unreachable("cut"), {"is_silence_over": True, "keeps_jobs": True}, Act.detach),
        (Unreachable("cut"), {"keeps_jobs": True}, Act.try_again),
        (CredentialError("403"), {"keeps_jobs": True}, Act.try_again),
        (CredentialError("403"), {"keeps_jobs": True, "is_silence_over": True}, Act.detach),
        (CredentialError("403"), {"keeps_jobs": True, "phase": Phase.setup}, Act.pass_on),
        (CredentialError("403"), {}, Act.pass_on),
        (RetryLater("files keep changing"), {}, Act.pass_on),
        (BadMachine("nonsense"), {}, Act.pass_on),
        (Preempted("outbid"), {}, Act.pass_on),
        (OSError("disk full"), {}, Act.pass_on),
    ],
)
def test_when_what_a_job_runs_on_does_not_answer(error: Exception, facts: dict[str, Any], act: Act):
    assert decide(error, Stage.calling, **({"phase": Phase.running} | facts)).act is act


LOST = [Preempted("outbid"), BadMachine("supervisor died"), RemoteError("failed"), Unreachable("cut")]


@pytest.mark.parametrize("phase", [Phase.setup, Phase.running, Phase.syncing, Phase.fetching])
@pytest.mark.parametrize("error", LOST)
def test_a_lost_lease_sends_its_job_elsewhere(error: Exception, phase: Phase):
    is_preempted = isinstance(error, Preempted)
    assert decide(error, Stage.attempt, phase=phase) == Decision(
        Act.requeue, Fate.lost, resumes=is_preempted, blames=True
    )
    assert decide(error, Stage.attempt, phase=phase, can_resume=True).blames is not is_preempted
    assert not decide(error, Stage.attempt, phase=phase, keeps_jobs=True).blames
    assert not decide(error, Stage.attempt, phase=phase, is_stopping=True).resumes


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        ({"restarts": 1, "cost": 0.99}, None, ""),
        ({"restarts": 2}, JobState.lost, "lost 3 machines, provider.max_restarts is 2"),
        ({"cost": 1.0}, JobState.capped, "provider.max_cost is reached"),
        ({"failed_setups": 1}, None, ""),
        ({"failed_setups": 2}, JobState.failed, "could not be installed on 2 machines"),
        ({"failed_setups": 2, "restarts": 2, "cost": 1.0}, JobState.failed, "could not be installed"),
    ],
)
def test_a_job_is_moved_within_its_caps(facts: dict[str, Any], state: JobState | None, words: str):
    found = decide(SetupFailed("no package"), Stage.attempt, phase=Phase.setup, **facts)
    assert (found.act, found.state) == (Act.end if state else Act.requeue, state)
    assert found.fate is Fate.lost
    assert words in (found.note or "")


def test_setups_that_failed_before_are_not_held_against_a_machine_that_was_lost():
    assert decide(Preempted("outbid"), Stage.attempt, phase=Phase.running, failed_setups=5).act is Act.requeue


def test_a_market_that_never_answered_fails_the_job_and_one_that_was_lost_later_does_not():
    assert decide(Unreachable("503"), Stage.attempt, started=False) == Decision(
        Act.end, state=JobState.failed, note="503"
    )
    assert decide(Unreachable("503"), Stage.attempt).act is Act.requeue


@pytest.mark.parametrize(
    ("error", "state"), [(Cancelled("stop."), JobState.cancelled), (Capped("cap."), JobState.capped)]
)
def test_a_stop_ends_the_job_and_a_lease_that_is_past_its_deadline(error: Exception, state: JobState):
    assert decide(error, Stage.attempt, phase=Phase.running) == Decision(Act.end, Fate.stays, state, str(error))
    over = decide(error, Stage.attempt, phase=Phase.running, is_over=True, folder="/results")
    assert (over.act, over.fate, over.state) == (Act.end, Fate.released, state)
    assert "what was downloaded until then is in /results" in str(over.note)


def test_a_worker_without_an_offer_leaves_its_job_to_the_others_if_there_are_any():
    assert decide(NoOffer("none"), Stage.attempt, others_have_leases=True) == Decision(Act.retire)
    alone = decide(NoOffer("none"), Stage.attempt)
    assert (alone.act, alone.state) == (Act.end, JobState.failed)


def test_what_could_not_be_released_is_not_released_again():
    found = decide(StillBilled("look"), Stage.attempt)
    assert (found.act, found.fate, found.state) == (Act.end, Fate.dropped, JobState.failed)


OURS = [
    sqlite3.OperationalError("disk is full"),
    OSError("read-only"),
    UnicodeEncodeError("ascii", "x", 0, 1, "y"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", [*OURS, CredentialError("403"), RetryLater("they keep changing"), MendInput("x")])
@pytest.mark.parametrize("phase", [Phase.running, Phase.syncing, Phase.fetching])
def test_what_is_no_verdict_about_a_job_leaves_its_results_on_the_machine(error: Exception, phase: Phase):
    assert decide(error, Stage.attempt, phase=phase) == Decision(Act.keep, Fate.kept)


@pytest.mark.parametrize("phase", [None, Phase.creating, Phase.idle, Phase.setup])
@pytest.mark.parametrize("error", OURS)
def test_trouble_of_this_computer_before_there_are_results_leaves_the_job_to_attach(
    error: Exception, phase: Phase | None
):
    assert decide(error, Stage.attempt, phase=phase) == Decision(Act.leave, Fate.released)


@pytest.mark.parametrize("error", [CredentialError("401"), MendInput("no such card"), RetryLater("refused")])
def test_what_only_the_user_can_mend_fails_the_job(error: Exception):
    found = decide(error, Stage.attempt, started=False)
    assert (found.act, found.state, found.note) == (Act.end, JobState.failed, str(error))


@pytest.mark.parametrize("error", [*LOST, *OURS, Cancelled("stop"), Capped("cap"), StillBilled("look")])
def test_a_job_whose_results_are_all_here_has_ended_as_it_did_whatever_fails_then(error: Exception):
    proof = Ended(JobState.pruned, "others do better", 1.0)
    found = decide(error, Stage.attempt, phase=Phase.fetching, proof=proof)
    assert (found.act, found.state, found.note) == (Act.end, JobState.pruned, "others do better")
    assert found.fate is Fate.released


def test_a_client_that_may_leave_leaves_the_job_alone():
    assert decide(Detached(), Stage.attempt, phase=Phase.running) == Decision(Act.detach, Fate.kept)

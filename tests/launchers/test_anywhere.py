"""Several providers as one: how their offers are ranked, what their history changes, and where a launch goes next."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launchers.capacity.anywhere import AnywhereCapacity
from launchers.capacity.base import Excluded
from launchers.capacity.market import plan_for
from launchers.errors import CredentialError, MendInput, NoOffer, StillBilled
from launchers.job import Billing, JobState
from launchers.ledger import Ledger
from launchers.ledger.records import Losses
from launchers.lifecycle.release import release
from launchers.planning import REPEATED_HOURS, SETUP_HOURS, Forecast, Plan, make_plan, rank_all
from launchers.providers import parts_of
from launchers.providers.auto.settings import AutoSettings
from launchers.providers.vast.settings import VastSettings
from launchers.testing.clock import VirtualClock
from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import FakeLaunch, Schedule
from launchers.testing.settings import fake_settings
from tests.launchers.test_plan import NEED, offer

JOB = Forecast(hours=2.0, is_upper_bound=False, download_gb=0.0)
ANY = replace(NEED, region=None)


def plans(spot: bool = False, job: Forecast = JOB, **offers: list[Any]) -> dict[str, Plan]:
    """Provider -> its plan, from its offers."""
    need = replace(ANY, spot=spot)
    return {name: make_plan(need, [replace(o, provider=name) for o in its], job) for name, its in offers.items()}


def order(plan: Plan) -> list[tuple[str, str]]:
    return [(candidate.offer.provider, candidate.offer.id) for candidate in plan.candidates]


def test_offers_of_all_are_ranked_by_what_the_job_costs():
    ranked = rank_all(plans(a=[offer(1, price=0.4), offer(2, price=0.2)], b=[offer(1, price=0.3)]), {})
    assert order(ranked) == [("a", "2"), ("b", "1"), ("a", "1")]


def test_of_equal_cost_the_more_reliable_comes_first():
    ranked = rank_all(plans(a=[offer(1, reliability=0.95)], b=[offer(1, reliability=0.99)]), {})
    assert order(ranked) == [("b", "1"), ("a", "1")]


SPOT = {"a": [offer(1, spot=True, price=0.20)], "b": [offer(2, price=0.21)]}


def test_spot_is_only_shown_unless_it_is_allowed_and_then_competes_with_its_losses():
    shown = rank_all(plans(**SPOT), {})
    assert order(shown) == [("b", "2")]
    assert [c.offer.id for c in shown.alternatives] == ["1"]
    # 2.05 h at $0.21 against 2.25 h at $0.20: a tenth of the training is expected to be repeated
    assert order(rank_all(plans(spot=True, **SPOT), {})) == [("b", "2"), ("a", "1")]


@pytest.mark.parametrize(
    ("seen", "first"), [(Losses(hours=90.0), "a"), (Losses(hours=90.0, lost=200), "b"), (Losses(), "b")]
)
def test_what_the_ledger_has_seen_decides_between_spot_and_on_demand(seen: Losses, first: str):
    job = replace(JOB, losses={("a", True): seen})
    assert order(rank_all(plans(spot=True, job=job, **SPOT), {}))[0][0] == first


def test_a_loss_costs_another_set_up_and_the_work_since_the_last_checkpoint():
    job = replace(JOB, losses={("vast", True): Losses(hours=30.0, lost=6)})
    each = SETUP_HOURS + REPEATED_HOURS
    assert job.overhead(offer(spot=True)) == pytest.approx((0.1 * 10 + 6 * each) / 40)
    assert job.overhead(offer()) == 0.0


def test_an_offer_on_which_the_job_would_end_too_late_is_refused_with_both_times():
    ranked = rank_all(plans(a=[offer(1)]), {}, hours_left=2.0)
    with pytest.raises(NoOffer, match=r"provider.deadline_hours refuses 1.*expected to take 2 h there, and has 2"):
        ranked.require(None, None)
    assert order(rank_all(plans(a=[offer(1)]), {}, hours_left=2.1)) == [("a", "1")]


def test_a_provider_whose_account_holds_too_little_is_passed_over():
    market = plans(a=[offer(1, price=0.1)], b=[offer(1, price=0.4)])
    assert order(rank_all(market, {}, balances={"a": 0.1})) == [("b", "1")]
    with pytest.raises(
        NoOffer, match=r"the balance at a .*the account has \$0.10, and the job is expected to cost \$0.2"
    ):
        rank_all(plans(a=[offer(1, price=0.1)]), {}, balances={"a": 0.1}).require(None, None)
    assert order(rank_all(market, {}, balances={"a": float("nan")})) == [("b", "1")]


def test_a_refusal_names_who_was_not_asked():
    with pytest.raises(NoOffer, match=r"No machine with .* is on the market now: .* b is left out: no key"):
        rank_all(plans(a=[]), {"b": "no key"}).require(None, None)


def test_a_card_that_none_has_is_said_of_all_of_them():
    market = plans(a=[offer(gpu="RTX 3090", substitute=True)], b=[offer(gpu="L4", substitute=True)])
    with pytest.raises(NoOffer, match="a and b have no RTX 4090: the nearest cards there are"):
        rank_all(market, {}).require(None, None)


# --- settings


def auto(**changes: Any) -> AutoSettings:
    shared = vars(fake_settings(name="auto", gpu="4090"))
    own = {"vast": {"image": "v", "min_cuda": 12.8}, "modal": {"image": "m", "volume": "x", "cache_volume": "y"}}
    return AutoSettings(**(shared | {"of": own} | changes))


def test_each_provider_gets_the_shared_settings_below_its_own():
    found = parts_of(auto(max_price=0.7, gpu="A100"))
    assert set(found.settings) == {"vast", "modal"}
    vast = found.settings["vast"]
    assert isinstance(vast, VastSettings)
    assert (vast.name, vast.max_price, vast.image, vast.min_cuda, vast.min_reliability) == (
        "vast",
        0.7,
        "v",
        12.8,
        0.95,
    )


def test_a_provider_that_can_not_serve_the_settings_is_left_out_with_its_reason():
    found = parts_of(auto())
    assert set(found.settings) == {"vast"}
    assert "4090" in found.left_out["modal"]
    with pytest.raises(MendInput, match=r"No provider can serve these settings. modal: .*4090"):
        parts_of(auto(providers=["modal"]))


def test_a_provider_without_spot_is_asked_for_on_demand_where_spot_is_allowed():
    found = parts_of(auto(spot=True, of={"vast": {"image": "v"}, "runpod": {"image": "r"}})).settings
    assert {name: settings.spot for name, settings in found.items()} == {"vast": True, "runpod": False}
    assert set(parts_of(auto(spot=True)).left_out) == {"modal"}, "no card is no matter of spot"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no such provider": (
        {"providers": ["acme"]},
        "can't choose 'acme', .*it can choose jarvis, modal, runpod, vast\\.$",
    ),
    "itself": ({"providers": ["auto"]}, "can't choose 'auto'"),
    "a cluster": ({"providers": ["slurm"]}, "can't choose 'slurm', which has no prices"),
    "nothing of its own": ({"providers": ["jarvis"]}, "provider.of.jarvis is missing"),
    "no settings": ({"of": {"vast": 3}}, "provider.of.vast is 3: it must hold settings"),
    "a wrong type": ({"of": {"vast": {"image": "v", "min_cuda": "new"}}}, "provider.of.vast is invalid: .*new"),
    "a value out of range": ({"providers": []}, "names no provider"),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG)
def test_settings_that_name_no_choice_are_refused(change: dict[str, Any], words: str):
    with pytest.raises(MendInput, match=words):
        parts_of(auto(**change))


# --- whole launches, in virtual time


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., FakeLaunch]]:
    with VirtualClock() as clock:

        def go(**fields: Any) -> FakeLaunch:
            launch = FakeLaunch(tmp_path / "launch", Schedule("anywhere", **fields), clock).run()
            assert launch.broken_promises() == []
            return launch

        yield go


def rented(launch: FakeLaunch) -> list[str]:
    return [machine.offer.provider for machine in sorted(launch.machines, key=lambda machine: machine.created)]


def test_each_job_of_a_launch_takes_the_cheapest_offer_that_is_left_wherever_it_is(run: Callable[..., FakeLaunch]):
    launch = run(jobs=1, settings={"max_price": 0.30})
    assert [machine.offer.price for machine in launch.machines] == [0.30]
    assert [record.provider for record in launch.records()] == ["fake"]


def test_jobs_that_ask_at_the_same_time_share_no_offer(run: Callable[..., FakeLaunch]):
    launch = run(jobs=4, machines=4)
    offers = {(machine.offer.provider, machine.offer.id) for machine in launch.machines}
    assert len(offers) == len(launch.machines) == 4
    assert [str(record.state) for record in launch.records()] == ["finished"] * 4


def test_a_lost_machine_is_followed_by_the_cheapest_one_anywhere_and_the_loss_is_remembered(
    run: Callable[..., FakeLaunch],
):
    launch = run(script=Script(steps=40), timed=(TimedFault("preempted", 15.0),))
    (record,) = launch.records()
    assert (record.state, record.restarts) == (JobState.finished, 1)
    assert rented(launch) == ["fake", "second"]
    assert launch.machines[1].started[0][2] > 0, "it goes on from its checkpoint"
    lost_at = launch.faults.began + 15.0
    assert launch.machines[0].destroy_asked is not None
    assert launch.machines[0].destroy_asked < lost_at + 30.0, "what is left of it is ended before another is rented"
    assert [losses.lost for losses in launch.ledger.losses(launch.clock.now()).values()] == [1, 0]


def test_the_chosen_market_is_said_with_the_next_one_elsewhere(run: Callable[..., FakeLaunch]):
    said = [row["text"] for row in run(settings={"max_hours": 10.0}).ledger.rows("SELECT text FROM events")]
    # 10.05 h at $0.30, and at $0.31
    assert "fake is the cheapest for this job ($3.02, on-demand); next is second ($3.12)" in said


def test_a_host_that_is_lost_counts_as_taken_away_by_its_own_market_s_word(run: Callable[..., FakeLaunch]):
    launch = run(script=Script(steps=40), timed=(TimedFault("host lost", 15.0),))
    assert [str(record.state) for record in launch.records()] == ["finished"]
    assert sum(losses.lost for losses in launch.ledger.losses(launch.clock.now()).values()) == 1


def test_a_market_with_an_empty_account_is_passed_over(run: Callable[..., FakeLaunch]):
    launch = run()
    launch.provider.credit = 0.01
    assert {c.offer.provider for c in plan_for(launch.context, JOB).candidates} == {"second"}
    launch.provider.credit = 100.0
    assert {c.offer.provider for c in plan_for(launch.context, JOB).candidates} == {"fake", "second"}


def test_a_market_that_refuses_its_key_is_left_out_and_said(run: Callable[..., FakeLaunch]):
    launch = run(calls=(CallFault("create", "refused"),))
    assert [str(record.state) for record in launch.records()] == ["finished"]
    assert rented(launch) == ["second"]
    assert any("fake is left out: the market refuses the key" in line for line in launch.said)


def test_a_client_that_is_killed_leaves_a_job_that_attach_finds_where_it_is(run: Callable[..., FakeLaunch]):
    launch = run(jobs=2, machines=2, script=Script(steps=40), timed=(TimedFault("client killed", 20.0),))
    assert len(launch.living()) == 2
    launch.attach(later=1.0)
    assert launch.broken_promises_of_attach() == []
    assert [str(record.state) for record in launch.records()] == ["finished", "finished"]
    assert len(launch.machines) == 2, "none was rented anew"
    assert [len(machine.started) for machine in launch.machines] == [1, 1]


def test_a_job_is_reached_on_the_market_that_it_is_on(run: Callable[..., FakeLaunch]):
    launch = run(script=Script(steps=400), timed=(TimedFault("client killed", 20.0),))
    (record,), (machine,) = launch.records(), launch.ledger.machines()
    lease = launch.context.capacity.reach(launch.context, machine, record)
    assert (lease.record.provider, lease.runner.job_status(record.spec)["state"]) == ("fake", "running")
    with pytest.raises(MendInput, match="launch-0 is on no machine"):
        launch.context.capacity.reach(launch.context, None, record)


def test_the_time_that_a_launch_has_taken_counts_towards_its_deadline(run: Callable[..., FakeLaunch]):
    launch = run()
    job = Forecast(hours=1.0, is_upper_bound=False, download_gb=0.0)
    launch.context.settings = AutoSettings(**vars(launch.settings), deadline_hours=1.2)
    assert plan_for(launch.context, job).candidates
    launch.clock.sleep(600.0)
    with pytest.raises(NoOffer, match=r"provider\.deadline_hours refuses 16"):
        plan_for(launch.context, job).require(None, None)
    launch.context.settings.deadline_hours = None
    assert plan_for(launch.context, job).candidates


def test_a_market_that_is_passed_over_for_one_job_is_named_and_asked_for_the_next(run: Callable[..., FakeLaunch]):
    launch = run()
    without = plan_for(launch.context, JOB, Excluded(providers={"fake": "it is full.", "elsewhere": "no."}))
    assert {candidate.offer.provider for candidate in without.candidates} == {"second"}
    assert without.left_out == {"fake": "it is full."}
    assert {c.offer.provider for c in plan_for(launch.context, JOB).candidates} == {"fake", "second"}
    with pytest.raises(NoOffer, match=r"No provider is left to choose from\. fake: it is full\. second: so is it\."):
        plan_for(launch.context, JOB, Excluded(providers={"fake": "it is full.", "second": "so is it."}))


def test_where_no_market_takes_the_key_the_last_problem_is_told(run: Callable[..., FakeLaunch]):
    launch = run(calls=(CallFault("create", "refused", times=50),))
    (record,) = launch.records()
    assert str(record.state) == "failed"
    assert "the market refuses the key" in str(record.note)
    assert launch.machines == []


def test_at_the_end_of_a_launch_every_capacity_is_closed():
    closed: list[str] = []

    class Closing:
        def __init__(self, name: str) -> None:
            self.close = lambda: closed.append(name)

    AnywhereCapacity([Closing("a"), Closing("b")]).close()  # type: ignore[list-item]
    assert closed == ["a", "b"]


def test_an_offer_that_is_taken_is_followed_by_the_next_best_of_all(run: Callable[..., FakeLaunch]):
    launch = run(calls=(CallFault("create", "taken"),))
    assert [machine.offer.price for machine in launch.machines] == [0.31]


def test_a_machine_at_a_provider_without_a_key_is_never_asked_of_another(run: Callable[..., FakeLaunch]):
    launch = run()
    context = replace(launch.context, places={"second": launch.context.places["second"]}, left_out={"fake": "no key."})
    with pytest.raises(CredentialError, match="can't use fake: no key"):
        context.at("fake")
    assert not hasattr(launch.context.provider, "status")


def test_a_machine_whose_key_was_taken_away_is_named_as_still_billed(run: Callable[..., FakeLaunch]):
    launch = run()
    record = launch.ledger.intend_machine("launch", None, [launch.provider.market[0]], (), None, launch.clock.now())
    assert record is not None
    launch.ledger.machine_created(record.label, "7777")
    context = replace(launch.context, places={"second": launch.context.places["second"]}, left_out={"fake": "no key."})
    with pytest.raises(
        StillBilled, match=r"STILL BILLED: fake instance 7777 .*can't use fake: no key.*python -m launchers stop 7777"
    ):
        release(context, record.label)
    assert launch.ledger.machine(record.label).billing is Billing.unconfirmed


def test_jobs_with_other_settings_of_a_provider_share_no_machine():
    kind = AnywhereCapacity([]).kind_of
    assert kind(auto()) == kind(auto())
    assert kind(auto()) != kind(auto(providers=["vast"]))
    assert kind(auto()) != kind(auto(of={"vast": {"image": "other"}}))


def test_a_mistake_in_one_provider_is_raised_and_not_taken_for_a_market_without_offers(run: Callable[..., FakeLaunch]):
    launch = run()
    launch.provider.market = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        plan_for(launch.context, JOB)


def test_a_ledger_that_refuses_the_loss_keeps_no_machine_and_no_job(
    run: Callable[..., FakeLaunch], monkeypatch: pytest.MonkeyPatch
):
    def refuse(self: Ledger, label: str, now: float) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "machine_lost", refuse)
    launch = run(script=Script(steps=40), timed=(TimedFault("preempted", 15.0),))
    assert [str(record.state) for record in launch.records()] == ["finished"]
    assert launch.machines[0].destroy_asked is not None


def test_hours_of_machines_that_billed_are_counted_by_provider_and_kind(tmp_path: Path):
    ledger = Ledger(tmp_path / "ledger.sqlite", durable=False)
    ledger.add_launch("l", "/", [], 0.0)
    for number, (spot, hours) in enumerate(((True, 2.0), (True, 3.0), (False, 5.0))):
        found = ledger.intend_machine("l", None, [offer(number, spot=spot)], (), None, 0.0)
        assert found is not None
        ledger.machine_created(found.label, f"i-{number}")
        if number == 1:
            ledger.machine_lost(found.label, 3600.0)
        ledger.machine_gone(found.label, hours * 3600)
    never = ledger.intend_machine("l", None, [offer(9)], (), None, 0.0)
    assert never is not None
    assert ledger.losses(9 * 3600.0) == {("vast", True): Losses(5.0, 1), ("vast", False): Losses(5.0, 0)}

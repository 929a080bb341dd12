"""The planner: what a job costs on an offer, which offers fit, and what a refusal says."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from launchers.capacity.market import need_of
from launchers.errors import NoOffer
from launchers.job import Misfit, Offer
from launchers.planning import SETUP_HOURS, SPOT_OVERHEAD, Forecast, PlannedJob, forecast, make_plan, price
from launchers.providers.base import Need
from launchers.providers.vast.settings import VastSettings
from launchers.testing.settings import fake_settings

NEED = Need(
    gpu="RTX 4090", num_gpus=1, gpu_memory_gib=16, disk_gb=50, download_mbps=100, region="Sweden", spot=False, max_price=0.5
)  # fmt: skip
JOB = Forecast(hours=2.0, is_upper_bound=False, download_gb=9.0, upload_gb=4.5)


def offer(number: int = 1, **changes: Any) -> Offer:
    """One that fits `NEED`."""
    fits = Offer(
        provider="vast", id=str(number), host=f"host-{number}", gpu="RTX 4090", num_gpus=1, gpu_memory_gib=24, price=0.4,
        spot=False, disk_gb=300, download_mbps=800, upload_mbps=400, reliability=0.99, region="Sweden, SE",
    )  # fmt: skip
    return replace(fits, **changes)


LACKS: dict[str, tuple[dict[str, Any], str, str]] = {
    "the card": ({"gpu": "RTX 3090", "substitute": True}, "provider.gpu", "its card is RTX 3090, not RTX 4090"),
    "the price": ({"price": 0.51}, "provider.max_price", "it costs more than provider.max_price $0.50/h"),
    "the number of cards": ({"num_gpus": 2}, "provider.num_gpus", "it has 2 cards, not 1"),
    "memory": (
        {"gpu_memory_gib": 15}, "provider.min_gpu_memory_gib", "its card has 15 GiB, less than provider.min_gpu_memory_gib 16",
    ),
    "disk": ({"disk_gb": 49}, "provider.disk_gb", "its disk has 49 GB free, less than provider.disk_gb 50"),
    "download rate": (
        {"download_mbps": 99}, "provider.min_download_mbps", "its 99 Mbit/s is below provider.min_download_mbps 100",
    ),
    "the region": ({"region": "Texas, US"}, "provider.region", "it is in Texas, US, not provider.region Sweden"),
    "a setting of the provider": (
        {"misfits": (Misfit("provider.min_cuda", "its driver supports CUDA 12.4"),)}, "provider.min_cuda", "CUDA 12.4",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "setting", "reason"), LACKS.values(), ids=LACKS)
def test_an_offer_that_lacks_one_thing_is_refused_for_that_setting_alone(
    change: dict[str, Any], setting: str, reason: str
):
    plan = make_plan(NEED, [offer(1, **change), offer(2)], JOB)
    assert [candidate.offer.id for candidate in plan.candidates] == ["2"]
    (refusal,) = plan.refusals
    assert [misfit.setting for misfit in refusal.misfits] == [setting]
    assert reason in refusal.reason


ON_THE_LIMIT: list[dict[str, Any]] = [
    {"price": 0.5}, {"gpu_memory_gib": 16}, {"disk_gb": 50}, {"download_mbps": 100}, {"region": "SWEDEN"},
]  # fmt: skip


@pytest.mark.parametrize("change", ON_THE_LIMIT, ids=str)
def test_an_offer_on_the_limit_fits(change: dict[str, Any]):
    assert len(make_plan(NEED, [offer(1, **change)], JOB).candidates) == 1


def test_without_a_region_every_place_fits():
    assert len(make_plan(replace(NEED, region=None), [offer(region="")], JOB).candidates) == 1


def test_a_refusal_names_what_emptied_the_list_and_the_nearest_offer():
    old = Misfit("provider.min_cuda", "its driver supports CUDA 12.4, less than provider.min_cuda 12.8")
    market = [
        offer(1, price=0.3, misfits=(old,), disk_gb=10), offer(2, price=0.35, misfits=(old,)), offer(3, price=0.7, misfits=(old,)),
    ]  # fmt: skip
    with pytest.raises(NoOffer) as refused:
        make_plan(NEED, market, JOB).require(None, None)
    assert str(refused.value) == (
        "No offer of 1 x RTX 4090 fits: of 3 on the market, provider.min_cuda refuses 3, provider.disk_gb refuses 1, "
        "provider.max_price refuses 1. The nearest is 2 at $0.350/h in Sweden, SE: its driver supports CUDA 12.4, less than "
        "provider.min_cuda 12.8."
    )


def test_an_empty_market_is_told_from_one_with_other_cards():
    with pytest.raises(NoOffer, match="No machine with 1 x RTX 4090 is on the market now"):
        make_plan(NEED, [], JOB).require(None, None)
    with pytest.raises(
        NoOffer, match=r"vast has no RTX 4090: the nearest cards there are RTX 3090 \(24 GB\) at \$0.40/h"
    ):
        make_plan(NEED, [offer(gpu="RTX 3090", substitute=True)], JOB).require(None, None)


def test_hosts_that_failed_before_are_refused():
    plan = make_plan(NEED, [offer(1), offer(2)], JOB, frozenset({"host-1"}))
    assert [candidate.offer.id for candidate in plan.candidates] == ["2"]
    assert plan.refusals[0].reason == "this host failed before"


def test_a_job_takes_its_setup_its_transfers_and_itself():
    found = price(offer(download_price=0.01, upload_price=0.02), JOB)
    assert found.parts.setup == SETUP_HOURS
    assert found.parts.download == pytest.approx(9 * 8000 / 800 / 3600)
    assert found.parts.training == 2.0
    assert found.parts.upload == pytest.approx(4.5 * 8000 / 400 / 3600)
    assert found.hours == pytest.approx(SETUP_HOURS + 0.025 + 2.0 + 0.025)
    assert found.rent == pytest.approx(found.hours * 0.4)
    assert found.traffic == pytest.approx(9 * 0.01 + 4.5 * 0.02)
    assert found.cost == pytest.approx(found.rent + found.traffic)
    assert str(found.parts) == "set-up 3 min, download 1.5 min, training 2 h, upload 1.5 min"


def test_a_spot_job_is_expected_to_repeat_some_of_its_work():
    assert price(offer(spot=True), JOB).parts.training == pytest.approx(2.0 * SPOT_OVERHEAD)


def test_candidates_come_by_the_cost_of_the_job_not_of_the_hour():
    slow = offer(1, price=0.39, download_mbps=100, download_price=0.2)
    plan = make_plan(NEED, [slow, offer(2), offer(3, spot=True, price=0.2)], JOB)
    assert [candidate.offer.id for candidate in plan.candidates] == ["2", "1"]
    assert [candidate.offer.id for candidate in plan.alternatives] == ["3"]


@pytest.mark.parametrize(("balance", "rents"), [(None, True), (0.85, True), (0.80, False), (0.0, False)])
def test_the_balance_must_cover_the_cheapest_offer(balance: float | None, rents: bool):
    plan = make_plan(NEED, [offer()], JOB)
    assert plan.candidates[0].cost == pytest.approx(0.84)
    if rents:
        assert plan.require(None, balance) == plan.candidates
    else:
        with pytest.raises(
            NoOffer, match=re.escape(f"The account's balance is ${balance:.2f}, and this job is expected to cost $0.84")
        ):
            plan.require(None, balance)


def test_a_cap_on_the_cost_refuses_what_is_above_it_unless_nothing_better_than_the_cap_is_known():
    market = [offer(1), offer(2, price=0.45)]
    plan = make_plan(NEED, market, JOB)
    assert [candidate.offer.id for candidate in plan.require(0.84 + 1e-6, None)] == ["1"]
    with pytest.raises(NoOffer, match=r"costs \$0.84 for this job .* provider.max_cost \$0.50"):
        plan.require(0.5, None)
    assert len(make_plan(NEED, market, replace(JOB, is_upper_bound=True)).require(0.5, None)) == 2


def test_a_forecast_has_its_amounts_from_the_settings_and_says_when_it_is_only_the_cap():
    settings = VastSettings(max_hours=3.0, expected_download_gb=8.0, expected_results_gb=0.5)
    assert forecast(2.0, settings) == Forecast(2.0, False, 8.0, 0.5)
    assert forecast(3.0, settings).is_upper_bound


def test_an_expectation_names_time_cost_and_parts_and_says_where_it_is_a_bound():
    plan = make_plan(NEED, [offer()], replace(JOB, hours=2.0))
    words = plan.expectation(plan.candidates[0])
    assert words == "expected: 2.1 h and $0.84 (set-up 3 min, download 1.5 min, training 2 h, upload 1.5 min)"
    assert (
        replace(plan, forecast=replace(JOB, is_upper_bound=True))
        .expectation(plan.candidates[0])
        .startswith("expected: at most 2.1 h")
    )


def test_a_planned_job_costs_what_its_best_offer_costs_and_nothing_here():
    plan = make_plan(NEED, [offer(1), offer(2, price=0.3)], JOB)
    assert PlannedJob(0, (), "vast", plan).cost == plan.candidates[0].cost
    assert PlannedJob(0, (), "vast", make_plan(NEED, [], JOB)).cost is None
    assert PlannedJob(0, (), "local").cost == 0.0


def test_a_need_of_disk_is_at_least_what_must_be_free_in_the_end():
    settings = fake_settings(disk_gb=20, min_disk_gb=50, gpu="4090")
    assert (need_of(settings).disk_gb, need_of(settings).gpu) == (50, "RTX 4090")
    assert need_of(fake_settings(disk_gb=80, min_disk_gb=50)).disk_gb == 80

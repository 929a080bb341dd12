"""NaN and infinity are no caps, wherever a number comes from: settings, offers, a lease."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest

from launchers.errors import MendInput, NoOffer
from launchers.planning import Forecast, make_plan, most
from launchers.providers.base import Need
from launchers.providers.jarvis.settings import JarvisSettings
from launchers.providers.modal.settings import ModalSettings
from launchers.providers.vast.settings import VastSettings
from launchers.ranges import check_settings
from launchers.remote.checked import Nonsense, decode
from launchers.remote.messages import Lease
from launchers.settings import RentalSettings, Timing
from tests.launchers.test_reserving import offer

NUMBERS: dict[str, Any] = {
    "max_price": 0.5, "max_cost": 3.0, "max_total_cost": 10.0, "max_hours": 12.0, "num_gpus": 1, "disk_gb": 100, "machines": 1,
    "min_gpu_memory_gib": 8.0, "min_disk_gb": 50, "min_download_mbps": 100.0, "max_restarts": 3, "sync_every_s": 60.0,
    "max_carry_mb": 100.0, "expected_download_gb": 8.0, "max_snapshot_mb": 500.0, "min_reliability": 0.9, "min_cuda": 12.8,
    "bid_factor": 1.1, "parallelism": 3, "timeout_s": 86400, "startup_timeout_s": 600, "retry_delay_s": 5.0, "grace_s": 20.0,
    "cpu": 2.0, "memory_mib": 4000,
}  # fmt: skip
FIXED = {"remote_root": "/workspace/launchers", "check_gpu": True, "spot": False}


def settings(schema: type[RentalSettings], **changes: Any) -> RentalSettings:
    names = {field.name for field in fields(schema)}
    return schema(**{name: value for name, value in {**NUMBERS, **FIXED}.items() if name in names} | changes)


CASES = [
    (schema, field.name)
    for schema in (VastSettings, JarvisSettings, ModalSettings)
    for field in fields(schema)
    if "int" in str(field.type) or "float" in str(field.type)
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0, 1e12])
@pytest.mark.parametrize(("schema", "name"), CASES, ids=[f"{schema.__name__}.{name}" for schema, name in CASES])
def test_every_number_of_the_settings_has_a_range(schema: type[RentalSettings], name: str, value: float):
    check_settings(settings(schema), Timing())
    with pytest.raises(MendInput, match=rf"^provider\.{name} is "):
        check_settings(settings(schema, **{name: value}), Timing())


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e12])
@pytest.mark.parametrize("name", [field.name for field in fields(Timing)])
def test_every_deadline_of_the_machinery_has_a_range(name: str, value: float):
    with pytest.raises(MendInput, match=rf"^hydra\.launcher\.timing\.{name} is "):
        check_settings(settings(VastSettings), replace(Timing(), **{name: value}))


NEED = Need(None, 1, 0.0, 10.0, 0.0, None, False, max_price=0.5)


@pytest.mark.parametrize(
    "change", [{"price": math.nan}, {"price": -1.0}, {"disk_gb": math.nan}, {"download_price": math.inf}]
)
def test_an_offer_whose_numbers_are_none_is_no_offer(change: dict[str, float]):
    plan = make_plan(NEED, [offer(1, **change), offer(2)], Forecast(1.0, False, 1.0))
    assert [candidate.offer.id for candidate in plan.candidates] == ["2"]
    assert plan.refusals == ()


def test_a_balance_that_is_no_number_rents_nothing():
    plan = make_plan(NEED, [offer(1)], Forecast(1.0, False, 1.0))
    with pytest.raises(NoOffer):
        plan.require(None, math.nan)


def test_a_launch_costs_at_most_its_jobs_or_its_own_cap():
    plain = settings(VastSettings, max_cost=None, max_total_cost=None)
    each = 0.5 * 12 + 0.5 * (60 + 1800) / 3600
    assert most(plain, Timing(), 4) == pytest.approx(4 * each)
    assert most(replace(plain, max_cost=1.0), Timing(), 1) == pytest.approx(1.0 + 0.5 * (60 + 1800) / 3600)
    assert most(replace(plain, max_total_cost=2.0), Timing(), 4) == 2.0


@pytest.mark.parametrize("terms", [{"seconds": math.nan}, {"seconds": math.inf}, {"idle": math.nan}, {"seconds": -1.0}])
def test_a_machine_takes_no_lease_without_an_end(terms: dict[str, float]):
    with pytest.raises(Nonsense):
        decode(Lease, {"seconds": 60.0, "idle": 60.0, "destruct": None} | terms)

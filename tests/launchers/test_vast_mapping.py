"""What Vast's words mean: searches, rows as offers, and rows as machines."""

from __future__ import annotations

from typing import Any

import pytest

from launchers.errors import NoOffer
from launchers.job import Address, MachineState
from launchers.planning import Forecast, make_plan
from launchers.providers.base import Need
from launchers.providers.vast import mapping
from launchers.providers.vast.settings import VastSettings
from tests.emulators.market import matches, offer

OWN = VastSettings(min_cuda=12.8, min_reliability=0.95, bid_factor=1.2)


def need(gpu: str | None = "RTX 4090", **changes: Any) -> Need:
    return Need(**{
        "gpu": gpu, "num_gpus": 1, "gpu_memory_gib": 8, "disk_gb": 100, "download_mbps": 100, "region": None, "spot": False,
        "max_price": 0.5, "settings": OWN,
    } | changes)  # fmt: skip


def refusal(wanted: Need, market: list[dict[str, Any]]) -> str:
    """What the planner says of a market that is searched as the provider does."""
    for query in mapping.offer_queries(wanted):
        rows = [row for row in market if matches(row, query)]
        if rows:
            break
    offers = [found for row in rows if (found := mapping.offer_of_row(row, wanted, wanted.spot))]
    with pytest.raises(NoOffer) as refused:
        make_plan(wanted, offers, Forecast(1.0, False, 1.0)).require(None, None)
    return str(refused.value)


MARKETS: dict[str, tuple[dict[str, Any], str]] = {
    "old drivers": (
        {"cuda_max_good": 12.4}, "provider.min_cuda refuses 1. The nearest is 1 at $0.360/h in Sweden, SE: its driver supports "
        "CUDA 12.4, less than provider.min_cuda 12.8.",
    ),
    "no direct port": ({"direct_port_count": 0}, "it has no direct port, so that ssh can't reach it"),
    "hosts that fail": (
        {"reliability": 0.8}, "its reliability 0.80 is below provider.min_reliability 0.95",
    ),
    "machines with more cards": ({"num_gpus": 4}, "it has 4 cards, not 1"),
    "other cards": ({"gpu_name": "RTX 3090"}, "vast has no RTX 4090: the nearest cards there are RTX 3090"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "said"), MARKETS.values(), ids=MARKETS)
def test_a_market_that_a_filter_empties_is_looked_at_without_it(change: dict[str, Any], said: str):
    assert said in refusal(need(), [offer(1, **change)])


def test_what_fits_is_found_by_the_first_search():
    (first, *_), market = mapping.offer_queries(need()), [offer(1, cuda_max_good=12.4), offer(2)]
    assert [row["id"] for row in market if matches(row, first)] == [2]
    assert mapping.offer_of_row(offer(2), need(), False).misfits == ()  # type: ignore[union-attr]


def test_without_settings_of_its_own_nothing_is_filtered():
    wanted = need(settings=None)
    assert all("cuda_max_good" not in query for query in mapping.offer_queries(wanted))
    assert mapping.offer_of_row(offer(1, cuda_max_good=11, reliability=0.1), wanted, False).misfits == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("floor", "cap", "bid"), [(0.2, 0.5, 0.24), (0.45, 0.5, 0.5), (0.5, 0.5, 0.5), (0.6, 0.5, 0.72)]
)
def test_a_bid_is_the_floor_times_the_factor_and_at_most_the_cap_that_allows_the_floor(
    floor: float, cap: float, bid: float
):
    found = mapping.offer_of_row(offer(1, min_bid=floor), need(max_price=cap), spot=True)
    assert found is not None
    assert found.price == pytest.approx(bid)
    assert found.spot


def test_a_row_without_a_floor_can_not_be_bid_on():
    assert mapping.offer_of_row(offer(1, min_bid=None), need(), spot=True) is None


def test_the_sizes_of_the_a100_are_told_apart_by_memory_and_the_larger_serves_as_the_smaller():
    small, large = offer(1, "A100 SXM4", gpu_ram=40_960), offer(2, "A100 PCIE", gpu_ram=81_920)
    as_large = [mapping.offer_of_row(row, need("A100 80GB"), False) for row in (small, large)]
    assert [(o.gpu, o.substitute) for o in as_large if o] == [("A100", True), ("A100 80GB", False)]
    as_small = [mapping.offer_of_row(row, need("A100"), False) for row in (small, large)]
    assert [o.substitute for o in as_small if o] == [False, False]


def row(**changes: Any) -> dict[str, Any]:
    return {
        "id": 7, "label": "launchers-a-b-0", "actual_status": "running", "gpu_name": "A100 SXM4", "gpu_ram": 81_920,
        "dph_total": 0.9, "is_bid": True, "machine_id": 12, "public_ipaddr": "1.2.3.4 ",
        "ports": {"22/tcp": [{"HostPort": "40022"}]}, "ssh_host": "ssh5.vast.ai", "ssh_port": 10007,
    } | changes  # fmt: skip


def test_a_machine_has_its_card_price_and_addresses_the_direct_one_first():
    found = mapping.status_of_row(row())
    assert (found.instance, found.gpu, found.price, found.spot, found.host) == ("7", "A100 80GB", 0.9, True, "12")
    assert found.addresses == (Address("1.2.3.4", 40022, "root"), Address("ssh5.vast.ai", 10007, "root"))


STATES: list[tuple[dict[str, Any], MachineState]] = [
    ({"actual_status": None}, MachineState.pending),
    ({"actual_status": "loading"}, MachineState.pending),
    ({"actual_status": "created"}, MachineState.pending),
    ({"actual_status": "created", "status_msg": "OCI runtime create failed"}, MachineState.failed),
    ({"actual_status": "running"}, MachineState.running),
    ({"actual_status": "exited"}, MachineState.failed),
    ({"actual_status": "offline"}, MachineState.failed),
    ({"actual_status": "stopped"}, MachineState.stopped),
    ({"actual_status": "exited", "cur_state": "stopped", "intended_status": "stopped"}, MachineState.stopped),
]


@pytest.mark.parametrize(("change", "state"), STATES, ids=str)
def test_every_word_for_a_state_has_its_meaning(change: dict[str, Any], state: MachineState):
    assert mapping.state_of_row(row(**change)) is state


def test_an_offer_says_of_its_row_what_a_planner_asks_in_our_units():
    found = mapping.offer_of_row(offer(9, gpu_ram=24_576, machine_id=31, num_gpus=2), need(), spot=False)
    assert found is not None
    assert (found.id, found.host, found.gpu, found.num_gpus, found.price) == ("9", "31", "RTX 4090", 2, 0.36)
    assert (found.gpu_memory_gib, found.disk_gb, found.download_mbps, found.upload_mbps) == (24.0, 300.0, 800.0, 500.0)
    assert (found.download_price, found.upload_price, found.price_without_disk) == (0.001, 0.002, 0.33)
    assert (found.reliability, found.region, found.spot, found.substitute) == (0.99, "Sweden, SE", False, False)


def test_of_a_row_with_nothing_but_an_id_and_a_price_nothing_is_assumed():
    found = mapping.offer_of_row({"id": 5, "dph_total": 0.2}, need(gpu=None), spot=False)
    assert found is not None
    assert (found.host, found.gpu, found.num_gpus, found.gpu_memory_gib) == ("5", None, 1, 0.0)
    assert (found.disk_gb, found.download_mbps, found.upload_mbps, found.reliability) == (0.0, 0.0, 0.0, 0.0)
    assert (found.download_price, found.upload_price, found.region) == (0.0, 0.0, "")
    assert mapping.offer_of_row({"id": 5}, need(gpu=None), spot=False) is None


@pytest.mark.parametrize(("ports", "reached"), [(None, False), (0, False), (1, True), (16, True)])
def test_one_direct_port_is_enough(ports: int | None, reached: bool):
    found = mapping.offer_of_row(offer(1, direct_port_count=ports), need(), spot=False)
    assert found is not None
    assert (found.misfits == ()) is reached


def test_a_driver_or_a_host_just_good_enough_fits():
    found = mapping.offer_of_row(offer(1, cuda_max_good=12.8, reliability=0.95), need(), spot=False)
    assert found is not None
    assert found.misfits == ()


def test_searches_widen_step_by_step_and_look_at_a_whole_page():
    assert mapping.offer_queries(need("A100 80GB", settings=None)) == [
        {
            "num_gpus": {"eq": 1}, "direct_port_count": {"gte": 1},
            "gpu_name": {"in": ["A100 SXM4", "A100 PCIE", "A100 SXM", "A100X"]}, "gpu_ram": {"gte": 79_000}, "limit": 200,
        },
        {"gpu_name": {"in": ["A100 SXM4", "A100 PCIE", "A100 SXM", "A100X"]}, "gpu_ram": {"gte": 79_000}, "limit": 200},
        {"num_gpus": {"eq": 1}, "limit": 200},
    ]  # fmt: skip
    first, *others = mapping.offer_queries(need(None))
    assert first["cuda_max_good"] == {"gte": 12.8}
    assert others == [{"num_gpus": {"eq": 1}, "limit": 200}]


def test_a_machine_that_starts_has_what_it_has_and_no_address():
    found = mapping.status_of_row({"id": 8})
    assert (found.instance, found.label, found.price, found.spot, found.gpu, found.host) == (
        "8",
        "",
        0.0,
        False,
        None,
        "",
    )
    assert (found.state, found.detail, found.addresses) == (MachineState.pending, "", ())


@pytest.mark.parametrize(
    "change",
    [{"ports": {"22/tcp": []}}, {"ports": {"22/tcp": [{"HostPort": None}]}}, {"public_ipaddr": None}, {"ports": None}],
    ids=str,
)
def test_half_a_direct_address_is_none(change: dict[str, Any]):
    assert mapping.status_of_row(row(**change)).addresses == (Address("ssh5.vast.ai", 10007, "root"),)
    assert mapping.status_of_row(row(**change, ssh_port=None)).addresses == ()


def test_the_words_of_a_state_are_told_once_each():
    found = mapping.status_of_row(row(cur_state="running", status_msg="all well"))
    assert found.detail == "running, all well"

"""What JarvisLabs' catalog means: prices by card, region and kind, and what does not count."""

from __future__ import annotations

from typing import Any

import pytest
from jarvislabs.models import ServerMetaGPU

from launchers.errors import NoOffer
from launchers.job import MachineState, Offer
from launchers.planning import Forecast, make_plan
from launchers.providers.base import Need
from launchers.providers.jarvis import mapping
from launchers.providers.jarvis.client import region_codes
from tests.emulators.jarvis import row

STORAGE = 100 * 0.10 / 730


def need(gpu: str | None, **changes: Any) -> Need:
    return Need(**{"gpu": gpu, "num_gpus": 1, "gpu_memory_gib": 8, "disk_gb": 100, "download_mbps": 100, "region": None,
                   "spot": False} | changes)  # fmt: skip


def offers(wanted: Need, *rows: dict[str, Any]) -> dict[str, Offer]:
    found = mapping.offers_of_rows([ServerMetaGPU(**r) for r in rows], wanted, region_codes())
    return {offer.id: offer for offer in found}


def test_a_price_is_that_of_all_cards_and_of_the_storage():
    found = offers(need("L4", num_gpus=2), row("L4", "in1", 0.44, 0.22))
    assert found["IN1/L4"].price == pytest.approx(0.88 + STORAGE, abs=1e-4)
    assert found["IN1/L4/spot"].price == pytest.approx(0.44 + STORAGE, abs=1e-4)
    assert found["IN1/L4/spot"].spot


def test_virtual_machines_and_unpriced_spot_are_no_offers():
    found = offers(need("L4"), row("L4", "in1", 0.2, workload_type="vm"), row("L4", "in2", 0.5, workload_type=None))
    assert set(found) == {"IN2/L4"}


def test_free_devices_are_those_of_the_kind_and_europe_gives_one():
    rows = [row("H100", "in2", 3.0, 1.5, spot_num_free_devices=0), row("H100", "eu1", 2.7, num_free_devices=8)]
    found = offers(need("H100", num_gpus=4), *rows)
    assert {place: offer.num_gpus for place, offer in found.items()} == {
        "IN2/H100": 4,
        "IN2/H100/spot": 0,
        "EU1/H100": 1,
    }


def test_an_80_gb_card_does_for_a_40_gb_one_and_not_the_other_way_round():
    rows = [row("A100", "in2", 0.89, vram="40"), row("A100-80GB", "in2", 1.49, vram="80")]
    assert [offer.gpu for offer in offers(need("A100"), *rows).values()] == ["A100", "A100 80GB"]
    assert [offer.gpu for offer in offers(need("A100 80GB"), *rows).values()] == ["A100 80GB"]


def test_a_card_that_is_not_offered_is_refused_with_the_nearest_free_ones():
    rows = [
        row("H200", "in2", 3.99, vram="141"), row("A30", "in2", 0.41, effective_num_free_devices=0, num_free_devices=0),
        row("L4", "in1", 0.44), row("L4", "in2", 0.46), row("A100", "in2", 0.89, vram="40"),
    ]  # fmt: skip
    wanted = need("RTX 4090")
    plan = make_plan(wanted, list(offers(wanted, *rows).values()), Forecast(1, False, 1))
    with pytest.raises(NoOffer) as refused:
        plan.require(None, None)
    assert str(refused.value) == (
        "jarvis has no RTX 4090: the nearest cards there are L4 (24 GB) at $0.45/h, A100 (40 GB) at $0.90/h, "
        "H200 (141 GB) at $4.00/h; choose one with hardware or provider.gpu, or another provider."
    )


def test_an_unknown_status_is_a_machine_on_its_way():
    assert mapping.state_of("Warming") is MachineState.pending
    assert mapping.state_of("Pausing") is mapping.state_of("Paused") is MachineState.stopped


def test_a_machine_is_asked_for_again_as_the_kind_it_was():
    class Row:
        machine_id, gpu_type, num_gpus, storage_gb, name, fs_id = 5001, "L4", 1, 20, "launchers-a-b-0", None

    assert mapping.resume_payload(Row, spot=True)["is_spot"] is True

"""What RunPod's words mean: catalog rows as offers, pods as machines, requests, refusals, and settings it can't serve."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launchers.errors import MendInput, NoOffer, OfferTaken, RetryLater
from launchers.job import Address, MachineState, Offer
from launchers.planning import Forecast, make_plan
from launchers.providers.base import CreateRequest, Need
from launchers.providers.runpod import mapping
from launchers.providers.runpod.checks import check_settings
from launchers.providers.runpod.client import Refused
from launchers.providers.runpod.settings import RunpodSettings
from tests.emulators.runpod import row

OWN = RunpodSettings(min_cuda=12.8, region=None, spot=False)
STORAGE = 100 * 0.10 / 730


def need(gpu: str | None = "RTX 4090", **changes: Any) -> Need:
    return Need(**{
        "gpu": gpu, "num_gpus": 1, "gpu_memory_gib": 8, "disk_gb": 100, "download_mbps": 0, "region": None, "spot": False,
        "max_price": 1.0, "settings": OWN,
    } | changes)  # fmt: skip


def offer(**changes: Any) -> Offer:
    (found,) = mapping.offers_of_rows([row("NVIDIA GeForce RTX 4090", 24, 0.44, 0.31, **changes)], need(), "secure")
    return found


def test_a_price_is_that_of_all_cards_of_the_tier_and_of_the_disk():
    rows = [row("NVIDIA GeForce RTX 4090", 24, 0.44, 0.31)]
    (secure,) = mapping.offers_of_rows(rows, need(num_gpus=2), "secure")
    (community,) = mapping.offers_of_rows(rows, need(num_gpus=2), "community")
    assert secure.price == pytest.approx(0.88 + STORAGE, abs=1e-4)
    assert community.price == pytest.approx(0.62 + STORAGE, abs=1e-4)
    assert (secure.gpu, secure.num_gpus, secure.many, secure.spot) == ("RTX 4090", 2, True, False)
    assert secure.misfits == ()


def test_a_tier_that_does_not_have_the_card_shows_the_others():
    rows = [row("NVIDIA L4", 24, 0.43), row("NVIDIA GeForce RTX 4090", 24, None, 0.31)]
    assert [o.gpu for o in mapping.offers_of_rows(rows, need(), "community")] == ["RTX 4090"]
    (other,) = mapping.offers_of_rows(rows, need(), "secure")
    assert (other.gpu, other.substitute) == ("L4", True)


CARDS = {
    "NVIDIA GeForce RTX 4090": "RTX 4090", "NVIDIA H100 80GB HBM3": "H100", "NVIDIA A100-SXM4-80GB": "A100 80GB",
    "NVIDIA RTX 6000 Ada Generation": "RTX 6000 Ada", "NVIDIA RTX A6000": "RTX A6000", "NVIDIA L40S": "L40S",
    "NVIDIA  A30": "A30", "Tesla T4": "T4", "AMD Instinct MI300X OAM": "AMD Instinct MI300X OAM",
}  # fmt: skip


@pytest.mark.parametrize(("theirs", "ours"), CARDS.items())
def test_every_card_has_our_name_where_we_have_one(theirs: str, ours: str):
    assert mapping.card_of(theirs) == ours


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "sold out": ({"availability": "NONE", "dataCenters": []}, "stock refuses 1"),
    "old drivers": (
        {"cudaVersions": [{"version": "12.4", "availability": "HIGH"}, {"version": "13.0", "availability": "NONE"}]},
        "its free machines support CUDA 12.4, less than provider.min_cuda 12.8",
    ),
    "no known driver": ({"cudaVersions": None}, "support CUDA no version that is known, less than"),
    "too few cards in a machine": ({"maxCount": {"secure": 0, "community": 0}}, "it has 0 cards, not 1"),
}


@pytest.mark.parametrize(("change", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_its_setting(change: dict[str, Any], said: str):
    with pytest.raises(NoOffer) as refused:
        make_plan(need(), [offer(**change)], Forecast(1.0, False, 1.0)).require(None, None)
    assert said in str(refused.value)


def test_versions_are_compared_as_numbers():
    newer = [{"version": "12.11", "availability": "LOW"}]
    assert offer(cudaVersions=newer).misfits == ()


def request(found: Offer, settings: RunpodSettings = OWN) -> CreateRequest:
    return CreateRequest(found, "launchers-a-b-0", "an/image:1", 50, "ssh-ed25519 AAAA key", 12.0, None, settings)


def test_a_pod_is_asked_for_with_its_key_its_ssh_port_and_the_driver_it_needs():
    payload = mapping.create_payload(request(offer()))
    assert payload == {
        "name": "launchers-a-b-0", "image": "an/image:1", "cloud": "SECURE", "disk": 50, "ports": ["22/tcp"], "startSsh": True,
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1, "minCudaVersion": "12.8"},
        "env": {"PUBLIC_KEY": "ssh-ed25519 AAAA key"},
    }  # fmt: skip


def test_a_region_chooses_among_the_data_centers_that_have_the_card():
    wanted = replace(OWN, region="eu-ro", min_cuda=None)
    payload = mapping.create_payload(request(offer(), wanted))
    assert payload["dataCenterIds"] == ["EU-RO-1"]
    assert "minCudaVersion" not in payload["gpu"]
    plan = make_plan(need(region="AP-"), [offer()], Forecast(1.0, False, 1.0))
    assert "it is in secure US-TX-3 EU-RO-1, not provider.region AP-" in plan.why_none()


def pod(**changes: Any) -> dict[str, Any]:
    return {
        "id": "7h9k2m4n6p", "name": "launchers-a-b-0", "status": "RUNNING", "cloud": "SECURE", "cost": 0.44,
        "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 1},
        "ssh": {"proxy": None, "direct": {"host": "1.2.3.4", "port": 40022, "username": "root", "command": ""}},
    } | changes  # fmt: skip


def test_a_pod_has_its_label_card_rate_and_the_address_of_its_own_sshd():
    found = mapping.status_of_pod(pod())
    assert (found.instance, found.label, found.gpu, found.price) == ("7h9k2m4n6p", "launchers-a-b-0", "RTX 4090", 0.44)
    assert found.addresses == (Address("1.2.3.4", 40022, "root"),)
    assert found.host == offer().host
    assert mapping.status_of_pod({"id": "x", "ssh": {"direct": None}}).addresses == ()


STATES = {
    "PROVISIONING": MachineState.pending, "STARTING": MachineState.pending, "RUNNING": MachineState.running,
    "EXITED": MachineState.stopped, "ERROR": MachineState.failed, "TERMINATED": MachineState.gone, "MIGRATING": MachineState.pending,
}  # fmt: skip


@pytest.mark.parametrize(("word", "state"), STATES.items())
def test_every_status_has_its_meaning_and_an_unknown_one_is_a_pod_on_its_way(word: str, state: MachineState):
    assert mapping.state_of(word) is state


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, OfferTaken), (402, MendInput), (403, OfferTaken), (422, MendInput), (429, RetryLater), (503, RetryLater)],
)
def test_a_refused_create_means_what_the_reference_says(status: int, kind: type[Exception]):
    refused = Refused(status, "Bad Request: There are no instances currently available")
    assert type(refused.of_create()) in (kind, Refused)
    assert isinstance(refused.of_create(), kind)
    assert refused.may_have_acted == (status >= 500)


@pytest.mark.parametrize(
    ("change", "said"),
    [({"spot": True}, "has no interruptible pods"), ({"cloud": "own"}, "must be secure, community or any")],
)
def test_what_runpod_can_not_do_is_refused(change: dict[str, Any], said: str):
    check_settings(OWN)
    with pytest.raises(MendInput, match=said):
        check_settings(replace(OWN, **change))

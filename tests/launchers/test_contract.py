"""One machine from the market's offers until it is gone: the same assertions for the fakes and for every emulated market."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from launchers.providers.base import Need
from launchers.registry import descriptors
from launchers.settings import RentalSettings
from launchers.testing.clock import VirtualClock
from launchers.testing.contract import assert_rents_and_destroys
from launchers.testing.faults import Faults
from launchers.testing.provider import FakePausingProvider, FakeProvider, FakeServerless
from launchers.testing.settings import fake_settings
from tests.emulators import cage
from tests.launchers.conftest import KEY_VARIABLES, MARKETS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGxhdW5jaGVycy1jb250cmFjdC10ZXN0LWtleS0wMDAw launchers"
LABEL = "launchers-abc123-contract-0"
IMAGES = {"jarvis": "pytorch"}
"""Where a market has a list of them."""


def need(settings: RentalSettings, **changes: Any) -> Need:
    return Need(**{
        "gpu": "RTX 4090", "num_gpus": 1, "gpu_memory_gib": 0.0, "disk_gb": 20, "download_mbps": 0.0, "region": None, "spot": False,
        "max_price": 2.0, "settings": settings,
    } | changes)  # fmt: skip


@pytest.mark.parametrize("kind", [FakeProvider, FakePausingProvider, FakeServerless])
def test_a_fake_market_keeps_the_contract(kind: type[FakeProvider]):
    with VirtualClock() as clock:
        provider, settings = kind(clock, Faults(clock.now)), fake_settings()
        assert_rents_and_destroys(provider, need(settings), settings, KEY, lambda: clock.sleep(1.0), LABEL)
        assert provider.living() == []


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MARKETS))
def test_an_emulated_market_keeps_the_contract(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if reason := cage.why_not():
        pytest.skip(reason)
    with MARKETS[name](tmp_path / "market") as market:
        monkeypatch.setenv(KEY_VARIABLES[name], market.key)
        found = descriptors()[name]
        settings = found.settings(gpu="RTX 4090", disk_gb=20, spot=False, image=IMAGES.get(name, "image"))
        provider, wanted = found.open(market.url), need(settings, gpu=settings.gpu)
        if name == "jarvis":
            wanted = need(settings, gpu=provider.offers(wanted)[0].gpu)
        assert_rents_and_destroys(provider, wanted, settings, KEY, lambda: time.sleep(0.1), LABEL)
        assert market.billed() == []

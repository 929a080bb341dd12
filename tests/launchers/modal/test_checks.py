"""What Modal can't be asked for is told before anything is uploaded, and what it costs is a dated estimate."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from launchers.errors import MendInput
from launchers.providers.base import Need
from launchers.providers.modal import prices
from launchers.providers.modal.checks import check_settings, retries_of
from launchers.providers.modal.settings import ModalSettings
from launchers.settings import typed
from tests.launchers.conftest import EXAMPLE

CONFIG = EXAMPLE / "descent/conf/provider/modal.yaml"


def settings(**changes: Any) -> ModalSettings:
    config = OmegaConf.load(CONFIG)
    return typed(
        ModalSettings, OmegaConf.merge({"provider": config.provider}, {"provider": changes}).provider, "provider"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"gpu": "A1000"}, "did you mean"),
        ({"gpu": "A100:x"}, "did you mean"),
        ({"gpu": "4090"}, "Modal has no RTX 4090; it has T4"),
        ({"num_gpus": 9}, "at most 8 A100"),
        ({"gpu": "A10", "num_gpus": 5}, "at most 4 A10"),
        ({"gpu_fallback": ["H1000"]}, "did you mean"),
        ({"gpu": None, "gpu_fallback": ["H100"]}, "name the first choice there"),
        ({"timeout_s": 90_000}, "for a longer job raise provider.max_hours"),
        ({"timeout_s": 0}, "must be from 1 to 86400"),
        ({"startup_timeout_s": 0}, "provider.startup_timeout_s is 0"),
        ({"max_restarts": -1}, "must be from 0 to 10"),
        ({"max_restarts": 99}, "must be from 0 to 10"),
        ({"retry_delay_s": 61}, "must be from 0 to 60"),
        ({"max_hours": 400, "timeout_s": 86_400}, "Modal allows 10"),
        ({"parallelism": 0}, "at least 1"),
        ({"mount_path": "outputs"}, "must be an absolute folder of our own"),
        ({"mount_path": "/root"}, "must be an absolute folder of our own"),
        ({"cache_path": "/tmp"}, "must be an absolute folder of our own"),
        ({"cache_path": "/mnt/outputs/cache"}, "lie in one another"),
        ({"volume": "a b"}, "is no name for a Volume"),
        ({"cache_volume": "descent-outputs"}, "mounts one only once"),
        ({"spot": True}, "Modal has no spot market"),
        ({"api_url": "http://127.0.0.1:9"}, "MODAL_SERVER_URL"),
    ],
)
def test_what_modal_cannot_do_is_refused_in_one_sentence(changes: dict[str, Any], sentence: str):
    with pytest.raises(MendInput) as refused:
        check_settings(settings(**changes))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_hours_beyond_one_attempt_are_reached_by_retries():
    assert retries_of(settings(max_hours=24, timeout_s=86_400, max_restarts=3)) == 3
    assert retries_of(settings(max_hours=72.5, timeout_s=86_400, max_restarts=3)) == 6
    check_settings(settings(max_hours=72.5, timeout_s=86_400))


def test_cards_keep_their_count_and_order():
    assert prices.gpu_argument("a100", 1, []) == "A100-40GB:1"
    assert prices.gpu_argument("H100", 2, ["A100-80GB"]) == ["H100:2", "A100-80GB:2"]
    assert prices.gpu_argument(None, 1, []) is None


def test_the_estimate_grows_with_cards_and_falls_without():
    def need(gpu: str | None, count: int = 1) -> Need:
        return Need(gpu, count, 0.0, 10.0, 0.0, None, False)

    (one,), (two,) = prices.offers(need("H100")), prices.offers(need("H100", 2))
    rest = prices.hourly(None, 1)
    assert two.price - rest == pytest.approx(2 * (one.price - rest))
    assert min(prices.offers(need(None)), key=lambda offer: offer.price).gpu is None
    assert not any(offer.charging.while_idle for offer in prices.offers(need(None)))

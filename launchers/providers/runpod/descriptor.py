"""What the launch core knows of RunPod."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.job import Charging
from launchers.providers.runpod.settings import RunpodSettings
from launchers.registry import CapacityKind, Descriptor
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.providers.base import Provider, SignUp


def _open(api_url: str | None) -> Provider:
    from launchers.providers.runpod.provider import open_provider

    return open_provider(api_url)


def _sign_up() -> SignUp:
    from launchers.providers.runpod.signup import SIGN_UP

    return SIGN_UP


def _check(settings: RentalSettings) -> None:
    from launchers.providers.runpod.checks import check_settings

    check_settings(settings)


DESCRIPTOR = Descriptor(
    name="runpod",
    title="RunPod",
    settings=RunpodSettings,
    open=_open,
    sign_up=_sign_up,
    stop="runpodctl pod delete {instance}",
    capacity=CapacityKind.machines,
    charging=Charging.machine,
    key_variables=("RUNPOD_API_KEY",),
    packages=("requests",),
    key_files=lambda home, config: ((home / ".runpod" / "config.toml", r"api_?key\s*=\s*[\"']([^\"']{8,})"),),
    check=_check,
)

"""What the launch core knows of Vast.ai. Imports no SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.job import Charging
from launchers.providers.vast.settings import VastSettings
from launchers.registry import CapacityKind, Descriptor

if TYPE_CHECKING:
    from launchers.providers.base import Provider, SignUp


def _open(api_url: str | None) -> Provider:
    from launchers.providers.vast.provider import open_provider

    return open_provider(api_url)


def _sign_up() -> SignUp:
    from launchers.providers.vast.signup import SIGN_UP

    return SIGN_UP


DESCRIPTOR = Descriptor(
    name="vast",
    title="Vast.ai",
    settings=VastSettings,
    open=_open,
    sign_up=_sign_up,
    stop="vastai destroy instance {instance}",
    capacity=CapacityKind.machines,
    charging=Charging.machine,
    key_variables=("VAST_API_KEY",),
    packages=("vastai",),
    key_files=lambda home, config: (
        (config / "vastai" / "vast_api_key", r"(\S{8,})"),
        (home / ".vast_api_key", r"(\S{8,})"),
    ),
)

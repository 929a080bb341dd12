"""What the launch core knows of `provider=auto`: its settings, and that it stands for others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.errors import MendInput
from launchers.job import Charging
from launchers.providers.auto.settings import AutoSettings
from launchers.registry import CapacityKind, Descriptor, Parts
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.providers.base import Provider, SignUp


NO_PROVIDER = "auto is no provider of its own: name one of those that it chooses among."


def _open(api_url: str | None) -> Provider:
    raise MendInput(NO_PROVIDER)


def _sign_up() -> SignUp:
    raise MendInput(NO_PROVIDER)


def _parts(settings: AutoSettings) -> Parts:
    from launchers.providers.auto.parts import parts

    return parts(settings)


def _check(settings: RentalSettings) -> None:
    assert isinstance(settings, AutoSettings)
    _parts(settings)


DESCRIPTOR = Descriptor(
    name="auto",
    title="the providers that provider=auto chooses among",
    settings=AutoSettings,
    open=_open,
    sign_up=_sign_up,
    stop="python -m launchers stop {instance}",
    capacity=CapacityKind.machines,
    charging=Charging.nothing,
    key_variables=(),
    check=_check,
    parts=_parts,
)

"""What the launch core knows of JarvisLabs. Imports no SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.job import Charging
from launchers.providers.jarvis.settings import JarvisSettings
from launchers.registry import CapacityKind, Descriptor, PriceList

if TYPE_CHECKING:
    from launchers.providers.base import Need, Provider, SignUp


def _open(api_url: str | None) -> Provider:
    from launchers.providers.jarvis.provider import open_provider

    return open_provider(api_url)


def _sign_up() -> SignUp:
    from launchers.providers.jarvis.signup import SIGN_UP

    return SIGN_UP


def _list_prices(need: Need) -> PriceList:
    from launchers.providers.jarvis.list_prices import price_list

    return price_list(need)


DESCRIPTOR = Descriptor(
    name="jarvis",
    title="JarvisLabs",
    settings=JarvisSettings,
    open=_open,
    sign_up=_sign_up,
    stop="jl destroy {instance}",
    capacity=CapacityKind.machines,
    charging=Charging.machine,
    key_variables=("JL_API_KEY",),
    packages=("jarvislabs",),
    key_files=lambda home, config: ((config / "jl" / "config.toml", r"token\s*=\s*[\"']([^\"']{8,})"),),
    list_prices=_list_prices,
)

"""What the launch core knows of Modal. Imports no SDK."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from launchers.job import Charging
from launchers.providers.modal.settings import ModalSettings
from launchers.registry import CapacityKind, Descriptor, PriceList
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.providers.base import Need, Provider, SignUp


def _open(api_url: str | None) -> Provider:
    from launchers.providers.modal.provider import open_provider

    return open_provider(api_url)


def _sign_up() -> SignUp:
    from launchers.providers.modal.signup import SIGN_UP

    return SIGN_UP


def _check(settings: RentalSettings) -> None:
    from launchers.providers.modal.checks import check_settings

    assert isinstance(settings, ModalSettings)
    check_settings(settings)


def _list_prices(need: Need) -> PriceList:
    from launchers.providers.modal import prices

    return PriceList(tuple(prices.offers(need)), prices.DATED, prices.SOURCE)


DESCRIPTOR = Descriptor(
    name="modal",
    title="Modal",
    settings=ModalSettings,
    open=_open,
    sign_up=_sign_up,
    stop="modal app stop {instance}",
    capacity=CapacityKind.serverless,
    charging=Charging.job,
    key_variables=("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"),
    packages=("modal",),
    key_files=lambda home, config: (
        (Path(os.environ.get("MODAL_CONFIG_PATH") or home / ".modal.toml"), r"token_secret\s*=\s*[\"']([^\"']{8,})"),
    ),
    check=_check,
    list_prices=_list_prices,
)

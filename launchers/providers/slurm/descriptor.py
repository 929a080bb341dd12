"""What the launch core knows of Slurm before it talks to a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launchers.job import Charging
from launchers.providers.slurm.settings import SlurmSettings
from launchers.registry import CapacityKind, Descriptor
from launchers.settings import RentalSettings

if TYPE_CHECKING:
    from launchers.providers.base import Provider, SignUp


def _open(api_url: str | None) -> Provider:
    from launchers.providers.slurm.provider import Slurm

    return Slurm(api_url)


def _sign_up() -> SignUp:
    from launchers.providers.slurm.signup import SIGN_UP

    return SIGN_UP


def _check(settings: RentalSettings) -> None:
    from launchers.providers.slurm.checks import check_settings

    assert isinstance(settings, SlurmSettings)
    check_settings(settings)


DESCRIPTOR = Descriptor(
    name="slurm",
    title="Slurm",
    settings=SlurmSettings,
    open=_open,
    sign_up=_sign_up,
    stop="scancel --name={instance}",
    capacity=CapacityKind.serverless,
    charging=Charging.nothing,
    key_variables=(),
    several_nodes=True,
    packages=("hydra-submitit-launcher", "submitit"),
    check=_check,
)

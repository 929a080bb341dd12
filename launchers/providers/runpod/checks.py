"""What RunPod can't be asked for. Pure."""

from __future__ import annotations

from launchers.errors import MendInput
from launchers.providers.runpod.settings import CLOUDS, RunpodSettings
from launchers.settings import RentalSettings


def check_settings(settings: RentalSettings) -> None:
    """
    Raises:
        MendInput: with the setting's name.
    """
    assert isinstance(settings, RunpodSettings)
    if settings.spot:
        raise MendInput("provider.spot=true: RunPod's API has no interruptible pods: set provider.spot=false.")
    if settings.cloud not in (*CLOUDS, "any"):
        raise MendInput(f"provider.cloud is {settings.cloud!r}: it must be secure, community or any.")

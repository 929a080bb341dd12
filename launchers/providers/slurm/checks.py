"""What can be refused before a cluster is asked. Pure."""

from __future__ import annotations

import re

from launchers.errors import MendInput
from launchers.providers.slurm.settings import SlurmSettings

_LOGIN = re.compile(r"[A-Za-z0-9_][\w.@%+-]*")


def check_settings(settings: SlurmSettings) -> None:
    """Refuse what Slurm can't do.

    Raises:
        MendInput: in one sentence, with the setting's name.
    """
    if settings.api_url != settings.login:
        raise MendInput(
            "provider.api_url is provider.login for Slurm: name the login node there, provider.login=user@host."
        )
    if settings.spot:
        raise MendInput(
            "provider.spot=true: Slurm rents nothing; a queue that preempts is chosen with provider.partition or provider.qos."
        )
    if settings.login is not None and not _LOGIN.fullmatch(settings.login):
        raise MendInput(f"provider.login={settings.login!r} is no `user@host`.")
    if settings.gres is not None and "gpu" in settings.gres and settings.gpu is None:
        raise MendInput(
            f"provider.gres={settings.gres!r} asks for a GPU, and hardware names none: choose hardware=a100 or another card."
        )
    if settings.timeout_min is not None and settings.timeout_min * 60 <= settings.signal_delay_s:
        raise MendInput(
            f"provider.timeout_min={settings.timeout_min} leaves no time before provider.signal_delay_s={settings.signal_delay_s}: "
            "raise the one or lower the other."
        )

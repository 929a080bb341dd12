"""What can be refused before anything is uploaded. Pure; the client itself sees most of these only after the image is built."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath

from launchers.errors import MendInput
from launchers.gpus import find_card
from launchers.providers.modal import prices
from launchers.providers.modal.settings import ModalSettings

LONGEST_ATTEMPT_S = 86_400
MOST_RETRIES = 10
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TAKEN = ("/", "/root", "/tmp", "/bin", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")


def retries_of(settings: ModalSettings) -> int:
    """Attempts after the first: for lost containers, and to reach hours beyond one attempt."""
    attempts = math.ceil(settings.max_hours * 3600 / settings.timeout_s)
    return settings.max_restarts + attempts - 1


def check_settings(settings: ModalSettings) -> None:
    """Refuse what Modal can't do.

    Raises:
        MendInput: in one sentence, with the setting's name.
    """
    if settings.api_url:
        raise MendInput(
            "provider.api_url means nothing to Modal: its client takes the address from MODAL_SERVER_URL in the environment."
        )
    if settings.spot:
        raise MendInput(
            "provider.spot=true: Modal has no spot market; every GPU container may be moved, at one price, and resumes."
        )
    for gpu in (settings.gpu, *settings.gpu_fallback):
        if gpu is not None:
            _check_card(gpu, settings.num_gpus)
    if settings.gpu_fallback and settings.gpu is None:
        raise MendInput("provider.gpu_fallback names cards and provider.gpu none: name the first choice there.")
    _check_range("timeout_s", settings.timeout_s, 1, LONGEST_ATTEMPT_S, "for a longer job raise provider.max_hours")
    _check_range("startup_timeout_s", settings.startup_timeout_s, 1, LONGEST_ATTEMPT_S, "it bounds a container's start")
    _check_range("max_restarts", settings.max_restarts, 0, MOST_RETRIES, "Modal retries no more often")
    _check_range("retry_delay_s", settings.retry_delay_s, 0, 60, "Modal waits no longer")
    if retries_of(settings) > MOST_RETRIES:
        raise MendInput(
            f"provider.max_hours {settings.max_hours:g} takes {retries_of(settings)} attempts after the first, with "
            f"max_restarts {settings.max_restarts}, and Modal allows {MOST_RETRIES}: ask for fewer hours, and attach again later."
        )
    if settings.parallelism is not None and settings.parallelism < 1:
        raise MendInput(f"provider.parallelism is {settings.parallelism}: it must be at least 1, or null for no limit.")
    for name in ("volume", "cache_volume"):
        if not _NAME.fullmatch(getattr(settings, name)):
            raise MendInput(
                f"provider.{name} {getattr(settings, name)!r} is no name for a Volume: "
                "1 to 64 letters, digits, dots, dashes and underscores."
            )
    if settings.volume == settings.cache_volume:
        raise MendInput("provider.volume and provider.cache_volume are the same Volume: Modal mounts one only once.")
    for name in ("mount_path", "cache_path"):
        _check_path(name, getattr(settings, name))
    outer, inner = PurePosixPath(settings.mount_path), PurePosixPath(settings.cache_path)
    if outer.is_relative_to(inner) or inner.is_relative_to(outer):
        raise MendInput(
            "provider.mount_path and provider.cache_path lie in one another: give each a folder of its own."
        )


def _check_card(gpu: str, count: int) -> None:
    card = find_card(gpu).name
    if card not in prices.GPU_PER_SECOND:
        raise MendInput(f"Modal has no {card}; it has {', '.join(prices.GPU_PER_SECOND)}.")
    if count > prices.most_cards(gpu):
        raise MendInput(f"Modal puts at most {prices.most_cards(gpu)} {card} into a container, not {count}.")


def _check_range(name: str, value: float, least: float, most: float, why: str) -> None:
    if not least <= value <= most:
        raise MendInput(f"provider.{name} is {value:g}: it must be from {least:g} to {most:g} ({why}).")


def _check_path(name: str, value: str) -> None:
    path = PurePosixPath(value)
    if not path.is_absolute() or ".." in path.parts or str(path) in _TAKEN or str(path).startswith("/root/"):
        raise MendInput(f"provider.{name} {value!r} must be an absolute folder of our own, such as /mnt/outputs.")

"""The settings of `provider=auto` -> those of each provider that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from launchers.errors import MendInput
from launchers.providers import descriptor
from launchers.providers.auto.settings import AutoSettings
from launchers.registry import Parts, descriptors
from launchers.settings import RentalSettings, typed


def parts(settings: AutoSettings) -> Parts:
    """What a job would ask of each provider; one that can't serve that is left out, with its own reason.

    Raises:
        MendInput: a provider is unknown or has no such setting, or none can serve these settings.
    """
    chosen = settings.providers if settings.providers is not None else list(settings.of)
    if not chosen:
        raise MendInput("provider.providers names no provider, and provider.of holds none: name those to choose from.")
    found: dict[str, RentalSettings] = {}
    left_out: dict[str, str] = {}
    for name in chosen:
        own = _own(settings, name)
        check = descriptor(name).check
        try:
            check(own)
        except MendInput as error:
            own = replace(own, spot=False)  # where spot is allowed, on-demand is as well
            if not settings.spot or not _passes(check, own):
                left_out[name] = str(error)
                continue
        found[name] = own
    if not found:
        raise MendInput(
            f"No provider can serve these settings. {' '.join(f'{name}: {why}' for name, why in left_out.items())}"
        )
    return Parts(found, left_out)


def _passes(check: Callable[[RentalSettings], None], settings: RentalSettings) -> bool:
    try:
        check(settings)
    except MendInput:
        return False
    return True


def _own(settings: AutoSettings, name: str) -> RentalSettings:
    found = descriptors().get(name)
    if found is None or found.parts is not None or not found.is_market:
        able = ", ".join(name for name, each in descriptors().items() if each.parts is None and each.is_market)
        raise MendInput(f"provider=auto can't choose {name!r}, which has no prices to compare; it can choose {able}.")
    if name not in settings.of:
        raise MendInput(f"provider.of.{name} is missing: it holds what only {name} is told, such as the image.")
    own = settings.of[name]
    if not isinstance(own, Mapping):
        raise MendInput(f"provider.of.{name} is {own!r}: it must hold settings of that provider.")
    shared: dict[str, Any] = {field.name: getattr(settings, field.name) for field in fields(RentalSettings)}
    return typed(found.settings, shared | dict(own) | {"name": name}, f"provider.of.{name}")

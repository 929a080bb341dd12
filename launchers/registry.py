"""The table of providers. Each package that rents something out has one `Descriptor`, found by the entry point group
`launchers.providers`, so that a provider is added without an edit here.

Hydra reads this table at each start of every Hydra app of the environment: a descriptor imports no SDK.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.job import Charging

if TYPE_CHECKING:
    from launchers.job import Offer
    from launchers.providers.base import Need, Provider, SignUp
    from launchers.settings import RentalSettings

GROUP = "launchers.providers"


class CapacityKind(StrEnum):
    """What a provider hands out."""

    machines = "machines"
    """Machines with ssh, which take one job after another."""
    serverless = "serverless"
    """Containers that the provider itself starts, one for each job."""


@dataclass(frozen=True)
class PriceList:
    """Published prices, readable without an account. Whether a card is free is not in it."""

    offers: tuple[Offer, ...]
    dated: str
    source: str


@dataclass(frozen=True)
class Parts:
    """The providers that one name stands for."""

    settings: Mapping[str, RentalSettings]
    """Provider -> the settings with which a job would run there."""
    left_out: Mapping[str, str]
    """Provider -> why these settings can't be asked for there."""


KeyFiles = Callable[[Path, Path], Iterable[tuple[Path, str]]]
"""Home folder and config folder -> the files that hold this provider's key, each with the pattern of the key in it."""


@dataclass(frozen=True)
class Descriptor:
    """What the launch core knows of a provider before it talks to it."""

    name: str
    """As in `provider=NAME`, `provider.name` and `hydra/launcher=NAME`; a Python identifier."""
    title: str
    settings: type[RentalSettings]
    """All settings of `provider:`, the provider's own ones with defaults, units and ranges."""
    open: Callable[[str | None], Provider]
    """The provider behind its own address, or behind the one given; raises `NoKey`."""
    sign_up: Callable[[], SignUp]
    stop: str
    """Shell command that destroys `{instance}` without this package."""
    capacity: CapacityKind
    charging: Charging
    key_variables: tuple[str, ...]
    """Environment variables that hold its key."""
    several_nodes: bool = False
    """Whether one job may run on several machines: only where they share a network."""
    packages: tuple[str, ...] = ()
    """Distributions that it needs."""
    key_files: KeyFiles = lambda home, config: ()
    check: Callable[[RentalSettings], None] = lambda settings: None
    """Raises `MendInput` for settings that the provider can't serve."""
    list_prices: Callable[[Need], PriceList] | None = None
    """Offers at published prices for a need; None where nothing is published."""
    parts: Callable[[Any], Parts] | None = None
    """Its settings -> those of the providers that it stands for; None: it rents something out itself."""

    @property
    def is_market(self) -> bool:
        """Whether it sends a bill; a cluster of the user's own has neither keys nor prices."""
        return self.charging is not Charging.nothing

    def stop_command(self, instance: str) -> str:
        return self.stop.format(instance=instance)


_broken: dict[str, str] = {}


@functools.cache
def descriptors() -> dict[str, Descriptor]:
    """All providers that are installed, by name."""
    found: dict[str, Descriptor] = {}
    for name, target in sorted(_entries(sys.path)):
        module, _, attribute = target.partition(":")
        try:
            descriptor = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            _broken[name] = f"{target} can't be imported ({error})"
            continue
        if not isinstance(descriptor, Descriptor) or descriptor.name != name or not name.isidentifier():
            _broken[name] = f"{target} is not a launchers.registry.Descriptor with the name {name!r}"
            continue
        found.setdefault(name, descriptor)
    return found


def broken() -> dict[str, str]:
    """Providers that are installed and can't be used -> why."""
    descriptors()
    return dict(_broken)


def names() -> tuple[str, ...]:
    """Names of the providers that rent something out themselves."""
    return tuple(name for name, found in descriptors().items() if found.parts is None)


def markets() -> tuple[str, ...]:
    """Names of the providers that send a bill."""
    return tuple(name for name, found in descriptors().items() if found.is_market)


def _entries(path: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The entry points of our group, as (name, "module:attribute"), of all distributions on a path.

    Not `importlib.metadata`: to import it and to parse the metadata of every distribution takes several times as long.
    """
    for folder in dict.fromkeys(path):
        try:
            infos = [name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for info in infos:
            try:
                with open(os.path.join(folder, info, "entry_points.txt"), "rb") as file:
                    content = file.read()
            except OSError:
                continue
            if GROUP.encode() in content:
                yield from _section(content.decode(errors="replace"))


def _section(text: str) -> Iterator[tuple[str, str]]:
    """The entries of our group in an `entry_points.txt`."""
    is_ours = False
    for line in text.splitlines():
        header = re.fullmatch(r"\s*\[(.*)\]\s*", line)
        if header:
            is_ours = header[1].strip() == GROUP
        elif is_ours and "=" in line:
            name, _, target = line.partition("=")
            yield name.strip(), target.strip()

"""A launch's surroundings with the real provider, clock and keys, and what is put away when it is done."""

from __future__ import annotations

import time
from pathlib import Path

from launchers.capacity import capacity_for
from launchers.capacity.anywhere import AnywhereCapacity
from launchers.errors import CredentialError, NoKey
from launchers.job import Billing
from launchers.ledger import Ledger, launchers_home
from launchers.lifecycle.context import UNDECIDED, LaunchContext, Place
from launchers.lifecycle.launch_keys import check_account, keys_of, retire
from launchers.providers import descriptor, open_provider, parts_of
from launchers.providers.base import DirectSsh
from launchers.settings import RentalSettings, Timing
from launchers.transport.keys import NO_KEYS
from launchers.upload.blob_store import Store


def open_context(launch: str, settings: RentalSettings, timing: Timing, home: Path, ledger: Ledger) -> LaunchContext:
    """The surroundings of a launch.

    Raises:
        CredentialError: its machines were rented with another key.
        NoKey: of no provider that its settings allow.
    """
    places, left_out = open_places(settings)
    check_account(ledger, launch, {name: place.provider for name, place in places.items()})
    has_ssh = any(isinstance(place.provider, DirectSsh) for place in places.values())
    keys = keys_of(ledger, launch, home) if has_ssh else NO_KEYS
    if descriptor(settings.name).parts is None:
        [place] = places.values()
        return LaunchContext(launch, place.provider, ledger, settings, timing, home, keys, place.capacity)
    capacity = AnywhereCapacity([place.capacity for place in places.values()])
    return LaunchContext(
        launch, UNDECIDED, ledger, settings, timing, home, keys, capacity, places=places, left_out=left_out
    )


def open_places(settings: RentalSettings) -> tuple[dict[str, Place], dict[str, str]]:
    """The providers at which a launch with these settings may rent; of those that it may not, why.

    Raises:
        NoKey: there is a key of none of them.
        CredentialError: the only one has a key that can't be right.
    """
    parts = parts_of(settings)
    places: dict[str, Place] = {}
    left_out = dict(parts.left_out)
    problems: list[CredentialError] = []
    for name, part in parts.settings.items():
        try:
            provider = open_provider(name, part.api_url)
        except CredentialError as error:
            problems.append(error)
            left_out[name] = str(error)
            continue
        places[name] = Place(provider, capacity_for(provider))
    if not places and len(problems) == 1:
        raise problems[0]
    if not places:
        variables = " or ".join(next(iter(descriptor(name).key_variables), name) for name in parts.settings)
        raise NoKey(
            f"There is a key of none of {', '.join(parts.settings)}: set {variables} (`python -m launchers doctor`)."
        )
    return places, left_out


def close_if_done(ledger: Ledger, launch: str) -> None:
    """A launch whose jobs have all ended and whose machines are all gone needs no client any more."""
    done = all(job.state.ended for job in ledger.jobs(launch))
    if done and all(machine.billing is Billing.gone for machine in ledger.machines(launch)):
        retire(ledger, launch, launchers_home())
        ledger.close_launch(launch, time.time())
        # The tree of this one stays, until another launch ends: the next one packs what has changed since.
        needed = [launch, *ledger.launches(only_open=True)]
        wanted = {job.spec.snapshot for name in needed for job in ledger.jobs(name)}
        Store(launchers_home() / "snapshots").forget_all_but(wanted)

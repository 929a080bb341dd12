"""A launch's surroundings with the real provider, clock and keys, and what is put away when it is done."""

from __future__ import annotations

import time
from pathlib import Path

from launchers.capacity import capacity_for
from launchers.job import Billing
from launchers.ledger import Ledger, launchers_home
from launchers.lifecycle.context import LaunchContext
from launchers.lifecycle.launch_keys import check_account, keys_of, retire
from launchers.providers import open_provider
from launchers.providers.base import DirectSsh
from launchers.settings import RentalSettings, Timing
from launchers.transport.keys import NO_KEYS
from launchers.upload.blob_store import Store


def open_context(launch: str, settings: RentalSettings, timing: Timing, home: Path, ledger: Ledger) -> LaunchContext:
    """The surroundings of a launch.

    Raises:
        CredentialError: its machines were rented with another key.
    """
    provider = open_provider(settings.name, settings.api_url)
    check_account(ledger, launch, provider)
    keys = keys_of(ledger, launch, home) if isinstance(provider, DirectSsh) else NO_KEYS
    return LaunchContext(launch, provider, ledger, settings, timing, home, keys, capacity_for(provider))


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

"""The keys of a launch: its ssh key pair, found when it is opened and removed at its end; and which API key it was rented with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from launchers.errors import CredentialError, LaunchError
from launchers.job import Billing
from launchers.ledger import Ledger
from launchers.providers import descriptor, open_provider
from launchers.providers.base import DirectSsh, Provider
from launchers.transport.keys import KeyPair, blob, forget, former_keys, key_name, launch_keys

log = logging.getLogger("launchers")


def keys_of(ledger: Ledger, launch: str, home: Path) -> KeyPair:
    """The pair that the machines of a launch know."""
    keys = launch_keys(home, ledger.client, launch)
    former = former_keys(home)
    # A launch of an earlier version, whose machines know the pair that was kept for all.
    is_former = not keys.private.exists() and former.private.exists() and launch in ledger.launches()
    return former if is_former else keys


def retire(ledger: Ledger, launch: str, home: Path) -> None:
    """Remove the pair of a launch that is over. Errors are logged and change nothing: without its private half it opens nothing."""
    keys = launch_keys(home, ledger.client, launch)
    if not keys.private.exists():
        return
    try:
        wanted = blob(keys.public)
        asked = {(job.spec.settings["name"], job.spec.settings["api_url"]) for job in ledger.jobs(launch)}
        places = {(name, api_url) for name, api_url in asked if descriptor(name).parts is None}
        places |= {(machine.provider, machine.api_url) for machine in ledger.machines(launch)}
        for name, api_url in places:
            provider = open_provider(name, api_url)
            if isinstance(provider, DirectSsh) and not provider.keys_per_machine:
                for key in provider.account_keys():
                    if blob(key.public) == wanted:
                        provider.remove_account_key(key.id)
    except LaunchError as error:
        log.warning(
            "The public ssh key of launch %s may still be in the account (%s): `python -m launchers doctor --rotate-key` "
            "removes it.", launch, str(error).rstrip("."),
        )  # fmt: skip
    finally:
        forget(keys)


def check_account(ledger: Ledger, launch: str, providers: Mapping[str, Provider]) -> None:
    """Another account knows nothing of a machine, and its answer must not count as the machine's end.

    Raises:
        CredentialError: a machine was rented with another key; the text says which.
    """
    for machine in ledger.machines(launch):
        provider = providers.get(machine.provider)
        if machine.billing is not Billing.gone and provider and machine.account not in (None, provider.account):
            raise CredentialError(
                f"{machine.label} was rented with another {machine.provider} key than the one that is set: set that one. If it "
                f"was replaced, and both are of one account, run `python -m launchers doctor --same-account`."
            )


def remove_leftovers(ledger: Ledger, provider: DirectSsh, home: Path) -> int:
    """Remove keys of ours from an account that no open launch needs; how many there were."""
    open_launches = ledger.launches(only_open=True)
    needed = {key_name(ledger.client, launch) for launch in open_launches}
    ours = key_name(ledger.client, "")
    former = {blob(path.read_text(errors="replace")) for path in former_keys(home).private.parent.glob("*.pub*")}
    removed = 0
    for key in provider.account_keys():
        name = key.name if key.name.startswith(ours) else [*key.public.split(), "", "", ""][2]
        if blob(key.public) in former or (name.startswith(ours) and name not in needed):
            provider.remove_account_key(key.id)
            removed += 1
    return removed


def remove_from_disk(ledger: Ledger, home: Path) -> str:
    """Remove the private halves that no open launch needs; returns what was done, and which machines take an old key still."""
    open_launches = set(ledger.launches(only_open=True))
    removed = 0
    for folder in (home / "launches").glob("*"):
        if folder.name not in open_launches:
            forget(launch_keys(home, ledger.client, folder.name))
            removed += 1
    living = [m for m in ledger.machines() if m.billing is not Billing.gone and m.bills_idle]
    old = [m for m in living if not launch_keys(home, ledger.client, m.launch).private.exists()]
    if not old and former_keys(home).private.parent.exists():
        forget(former_keys(home))
        removed += 1
    if not old:
        return f"{removed} removed"
    launches = " ".join(sorted({m.launch for m in old}))
    return (
        f"{removed} removed; {', '.join(m.label for m in old)} still accept the old key: destroy them with `python -m launchers attach` or "
        f"`python -m launchers stop`, for each of {launches}"
    )

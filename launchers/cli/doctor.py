"""doctor: checks this computer and each provider's account, and explains how to fix what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from launchers.cli.endpoints import url_for
from launchers.cli.tables import print_json, print_lines
from launchers.errors import LaunchError, MendInput
from launchers.formats import count
from launchers.job import Billing
from launchers.ledger import Ledger, launchers_home
from launchers.lifecycle.launch_keys import remove_from_disk, remove_leftovers
from launchers.providers import open_provider, sign_up
from launchers.providers.base import DirectSsh, KnowsBalance
from launchers.registry import broken, descriptors, names
from launchers.secrecy import scrub

PACKAGES = ("hydra-core", "paramiko", "rich")


def doctor(options: argparse.Namespace) -> int:
    """Exit code 0 if the chosen provider is ready; without a choice, if any is and no account with a key has a problem."""
    chosen = (options.provider,) if options.provider else names()
    home = launchers_home()
    here = [
        _check("python", lambda: ".".join(map(str, sys.version_info[:3]))),
        *(_check(name, partial(importlib.metadata.version, name)) for name in _packages()),
        *({"check": f"{name}: installed", "ok": False, "found": scrub(why)} for name, why in broken().items()),
        _check("git", _git),
        _check("ledger", lambda: f"{Ledger.open().path}, client {Ledger.open().client}"),
    ]
    of_providers = {name: _provider_checks(name, url_for(options.api_url, name), home, options) for name in chosen}
    if options.rotate_key:
        here.append(_check("ssh keys here", lambda: remove_from_disk(Ledger.open(), home)))
    ready = [name for name, checks in of_providers.items() if all(check["ok"] for check in checks)]
    rows = [*here, *(check for checks in of_providers.values() for check in checks)]
    if options.json:
        print_json(rows)
    else:
        width = max(len(row["check"]) for row in rows)
        for row in rows:
            print_lines(
                [f"{'ok ' if row['ok'] else 'fix'}  {row['check']:{width}}  {' '.join(row['found'].splitlines())}"]
            )
        print_lines([_verdict(ready, options.provider)])
        for name, checks in of_providers.items():
            if not checks[0]["ok"]:
                print(walk(name))
    # One provider is enough: a key that is missing counts only where no other is there.
    used = [checks for checks in of_providers.values() if checks[0]["ok"]]
    healthy = all(check["ok"] for checks in [here, *used] for check in checks)
    return 0 if healthy and ready else 1


def _packages() -> tuple[str, ...]:
    return (*PACKAGES, *(package for found in descriptors().values() for package in found.packages))


def walk(name: str) -> str:
    """The steps for someone without an account."""
    steps = sign_up(name)
    return "\n".join(
        [
            f"\n{steps.title} ({steps.good_for}):",
            f"  1. account   sign up at {steps.page}",
            f"  2. credit    {steps.credit}",
            f"  3. key       {steps.key}",
            f"  4. ssh       {steps.ssh}",
            f"  5. check     python -m launchers doctor --provider {name}",
            f"  6. plan      {steps.try_it}",
        ]
    )


def _verdict(ready: list[str], chosen: str | None) -> str:
    if ready:
        return f"Ready: {', '.join(ready)}."
    return f"{chosen} is not ready." if chosen else "No provider is ready."


def _provider_checks(name: str, api_url: str | None, home: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one provider, the key first: without it, nothing else can be checked. A cluster has none: it answers or does not."""
    if not descriptors()[name].is_market:
        return [_check(f"{name}: cluster", lambda: _queue(name, api_url))]
    checks = [_check(f"{name}: key", lambda: _key_of(name, api_url))]
    if checks[0]["ok"]:
        checks.append(_check(f"{name}: balance", lambda: _balance(name, api_url)))
        if options.rotate_key:
            checks.append(_check(f"{name}: ssh keys", lambda: _remove_keys(name, api_url, home)))
        if options.same_account:
            checks.append(_check(f"{name}: account", lambda: _adopt(name, api_url)))
    return checks


def _check(what: str, act: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": what, "ok": True, "found": act()}
    except importlib.metadata.PackageNotFoundError:
        return {"check": what, "ok": False, "found": f"not installed: `pip install {what}`"}
    except (LaunchError, OSError) as error:
        return {"check": what, "ok": False, "found": scrub(str(error))}


def _git() -> str:
    found = shutil.which("git")
    if found is None:
        raise MendInput("git is not installed: without it, every file of the folder is uploaded. Install git.")
    return found


def _key_of(name: str, api_url: str | None) -> str:
    open_provider(name, api_url)
    return "found"


def _queue(name: str, api_url: str | None) -> str:
    return f"answers; {count(len(open_provider(name, api_url).list_mine()), 'launch', 'launches')} in its queue"


def _balance(name: str, api_url: str | None) -> str:
    provider = open_provider(name, api_url)
    if not isinstance(provider, KnowsBalance):
        return f"not prepaid; {len(provider.list_mine())} running"
    left = provider.balance()
    if left <= 0:
        raise MendInput(f"the balance is ${left:.2f}: add credit before renting.")
    return f"${left:.2f}"


def _remove_keys(name: str, api_url: str | None, home: Path) -> str:
    """Remove our old keys from the account; machines that were created with them keep them."""
    provider = open_provider(name, api_url)
    if not isinstance(provider, DirectSsh):
        return "not needed"
    return f"{remove_leftovers(Ledger.open(), provider, home)} removed from the account"


def _adopt(name: str, api_url: str | None) -> str:
    """Use the key that is set now for machines that were rented with an older key of the same account."""
    ledger, account = Ledger.open(), open_provider(name, api_url).account
    changed = [
        machine
        for machine in ledger.machines()
        if machine.billing is not Billing.gone
        and (machine.provider, machine.api_url) == (name, api_url)
        and machine.account not in (None, account)
    ]
    for machine in changed:
        ledger.set_account(machine.label, account)
    return f"this key is used for {count(len(changed), 'open machine')} from now on"

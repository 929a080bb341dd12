"""doctor: what this machine and each provider's account lack, and the way there for somebody who has none of it yet."""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from launchers.cli.places import url_for
from launchers.cli.tables import Sheet, show
from launchers.errors import LaunchError, MendInput
from launchers.ledger import Ledger, launchers_home
from launchers.providers import NAMES, open_provider, sign_up
from launchers.providers.base import DirectSsh, KnowsBalance
from launchers.transport.keys import key_pair, rotate

PACKAGES = ("hydra-core", "jarvislabs", "modal", "paramiko", "vastai", "rich")


def doctor(options: argparse.Namespace) -> int:
    """Exit code 0 when the chosen provider is ready; without a choice, when one is and no account found is broken."""
    chosen = (options.provider,) if options.provider else NAMES
    home = launchers_home()
    here = [
        _check("python", lambda: ".".join(map(str, sys.version_info[:3]))),
        *(_check(name, partial(importlib.metadata.version, name)) for name in PACKAGES),
        _check("git", _git),
        _check("ledger", lambda: f"{Ledger.open().path}, client {Ledger.open().client}"),
        _check("ssh key pair", lambda: str((rotate(home) if options.rotate_key else key_pair(home)).private)),
    ]
    of_providers = {
        name: _provider_checks(name, url_for(options.api_url, name), home, options.rotate_key) for name in chosen
    }
    ready = [name for name, checks in of_providers.items() if all(check["ok"] for check in checks)]
    rows = [*here, *(check for checks in of_providers.values() for check in checks)]
    show(Sheet("Doctor", ("check", "ok", "found"), rows, _verdict(ready, options.provider)), options.json)
    for name, checks in of_providers.items():
        if not checks[0]["ok"] and not options.json:
            print(walk(name))
    # One provider is enough: a key that is missing counts only where no other is there.
    used = [checks for checks in of_providers.values() if checks[0]["ok"]]
    healthy = all(check["ok"] for checks in [here, *used] for check in checks)
    return 0 if healthy and ready else 1


def walk(name: str) -> str:
    """The steps of somebody who has no account there yet."""
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


def _provider_checks(name: str, api_url: str | None, home: Path, rotated: bool) -> list[dict[str, Any]]:
    """The first row is about the key; without one there is nothing else to ask."""
    checks = [_check(f"{name}: key", lambda: _key_of(name, api_url))]
    if checks[0]["ok"]:
        checks.append(_check(f"{name}: balance", lambda: _balance(name, api_url)))
        if rotated:
            checks.append(_check(f"{name}: new ssh key", lambda: _register(name, api_url, home)))
    return checks


def _check(what: str, act: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": what, "ok": True, "found": act()}
    except importlib.metadata.PackageNotFoundError:
        return {"check": what, "ok": False, "found": f"not installed: `pip install {what}`"}
    except (LaunchError, OSError) as error:
        return {"check": what, "ok": False, "found": str(error)}


def _git() -> str:
    found = shutil.which("git")
    if found is None:
        raise MendInput("git is not installed: without it every file of the folder is shipped.")
    return found


def _key_of(name: str, api_url: str | None) -> str:
    open_provider(name, api_url)
    return "found"


def _balance(name: str, api_url: str | None) -> str:
    provider = open_provider(name, api_url)
    if not isinstance(provider, KnowsBalance):
        return f"not prepaid; {len(provider.list_mine())} running"
    left = provider.balance()
    if left <= 0:
        raise MendInput(f"the account holds ${left:.2f}: add credit before renting.")
    return f"${left:.2f}"


def _register(name: str, api_url: str | None, home: Path) -> str:
    provider = open_provider(name, api_url)
    if isinstance(provider, DirectSsh):
        provider.register_key(key_pair(home).public)
    return "registered"

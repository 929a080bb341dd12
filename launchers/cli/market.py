"""offers, estimate, doctor: what one looks at before renting."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from launchers.cli.tables import Sheet, candidate_row, show
from launchers.errors import CredentialError, LaunchError, MendInput, NoOffer
from launchers.gpus import find_card
from launchers.ledger import Ledger, launchers_home
from launchers.plan import Forecast, make_plan
from launchers.providers import NAMES, open_provider
from launchers.providers.base import DirectSsh, KnowsBalance, Need
from launchers.transport.keys import key_pair, rotate

ESTIMATE_FILE = "LAUNCHERS_ESTIMATE_FILE"
"""Names a file that dry runs append their plan to, one JSON row a line."""
PACKAGES = ("hydra-core", "jarvislabs", "modal", "paramiko", "vastai", "rich")


def offers(options: argparse.Namespace) -> int:
    need = Need(
        find_card(options.gpu).name if options.gpu else None, options.num_gpus, 0.0, options.disk_gb, 0.0, None, options.spot,
        bid_factor=1.0, max_price=options.max_price,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    problems: list[LaunchError] = []
    for name in NAMES:
        try:
            found = open_provider(name, options.api_url).offers(need)
        except LaunchError as error:
            problems.append(error)
            continue
        plan = make_plan(need, found, Forecast(1.0, False, 0.0))
        kinds = plan.candidates if options.spot else (*plan.candidates, *plan.alternatives)
        rows += [candidate_row(c) for c in kinds]
    if len(problems) == len(NAMES):
        raise problems[0]
    rows.sort(key=lambda row: (row["card"], row["$/h"]))
    columns = ("provider", "offer", "card", "gib", "kind", "$/h", "mbit/s", "reliability", "region")
    note = " ".join(str(problem) for problem in problems)
    show(Sheet("Offers", columns, rows, note, frozenset({"$/h", "gib", "mbit/s", "reliability"})), options.json)
    return 0


def estimate(options: argparse.Namespace) -> int:
    """Dry runs of the app over hardware x provider, gathered in one table."""
    hardware = options.hardware.split(",") if options.hardware else _rentable_hardware(options.app)
    providers = options.provider.split(",") if options.provider else [name for name in NAMES if _has_key(name)]
    if not providers:
        raise CredentialError("No provider's key is set: `python -m launchers doctor` says how to get one.")
    sweep = [f"hardware={','.join(repr(name) for name in hardware)}", f"provider={','.join(providers)}"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        command = [sys.executable, "-m", options.app, "-m", *options.overrides, *sweep, "provider.dry_run=true"]
        done = subprocess.run(
            command, env=os.environ | {ESTIMATE_FILE: str(file)}, capture_output=True, text=True, check=False
        )
        if done.returncode or not file.exists():
            raise MendInput(
                (done.stderr.strip() or done.stdout.strip() or "The job could not be composed.").splitlines()[-1]
            )
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    columns = ("hardware", "provider", "card", "kind", "$/h", "hours", "$_job", "note")
    note = (
        "Cheapest fitting offer of each kind now. Hours marked 'at most' are provider.max_hours: no forecast is known."
    )
    show(Sheet("Estimate", columns, rows, note, frozenset({"$/h", "hours", "$_job"})), options.json)
    return 0


def _rentable_hardware(app: str) -> list[str]:
    """The hardware options of the app that name a card."""
    import importlib.util

    spec = importlib.util.find_spec(app)
    if spec is None or not spec.origin:
        raise MendInput(f"There is no app {app!r} here: name its module with --app.")
    package = Path(spec.origin).parent
    for folder in (package / "conf" / "hardware", package.parent / "conf" / "hardware"):
        if folder.is_dir():
            return sorted(
                f.stem for f in folder.glob("*.yaml") if "gpu: null" not in f.read_text() and "gpu:" in f.read_text()
            )
    raise MendInput(f"{app} has no hardware options in its conf folder: name them with --hardware.")


def _has_key(name: str) -> bool:
    try:
        open_provider(name)
    except CredentialError:
        return False
    return True


def doctor(options: argparse.Namespace) -> int:
    checks: list[dict[str, Any]] = []

    def check(what: str, act: Any) -> None:
        try:
            checks.append({"check": what, "ok": True, "found": act()})
        except (LaunchError, OSError, NoOffer) as error:
            checks.append({"check": what, "ok": False, "found": str(error)})

    home = launchers_home()
    check("python", lambda: ".".join(map(str, sys.version_info[:3])))
    for package in PACKAGES:
        check(package, lambda package=package: importlib.metadata.version(package))
    check(
        "git",
        lambda: shutil.which("git") or _lack("git is not installed: without it every file of the folder is shipped."),
    )
    check("ledger", lambda: f"{Ledger.open().path}, client {Ledger.open().client}")
    check("ssh key pair", lambda: str((rotate(home) if options.rotate_key else key_pair(home)).private))
    for name in NAMES:
        check(f"{name}: key", lambda name=name: _key_of(name, options.api_url))
        if checks[-1]["ok"]:
            check(f"{name}: balance", lambda name=name: _balance(name, options.api_url))
            if options.rotate_key:
                check(f"{name}: new ssh key", lambda name=name: _register(name, options.api_url, home))
    show(Sheet("Doctor", ("check", "ok", "found"), checks), options.json)
    # One provider is enough: a key that is missing counts only where no other is there.
    keys = [row for row in checks if str(row["check"]).endswith(": key")]
    counted = [row for row in checks if row not in keys or not any(key["ok"] for key in keys)]
    return 0 if all(row["ok"] for row in counted) else 1


def _lack(text: str) -> str:
    raise MendInput(text)


def _key_of(name: str, api_url: str | None) -> str:
    open_provider(name, api_url)
    return "found"


def _balance(name: str, api_url: str | None) -> str:
    provider = open_provider(name, api_url)
    if not isinstance(provider, KnowsBalance):
        return "not prepaid"
    left = provider.balance()
    if left <= 0:
        raise MendInput(f"the account holds ${left:.2f}: add credit before renting.")
    return f"${left:.2f}"


def _register(name: str, api_url: str | None, home: Path) -> str:
    provider = open_provider(name, api_url)
    if isinstance(provider, DirectSsh):
        provider.register_key(key_pair(home).public)
    return "registered"

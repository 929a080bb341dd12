"""offers, estimate: prices, before anything is rented."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from launchers.cli.endpoints import url_for
from launchers.cli.keys import missing_text, no_provider
from launchers.cli.plan_tables import estimate_table, offer_row, offers_table, price_sources
from launchers.cli.tables import show
from launchers.errors import CredentialError, LaunchError, MendInput, NoKey
from launchers.gpus import find_card
from launchers.job import Offer
from launchers.launcher import ESTIMATE_FILE
from launchers.planning import Forecast, make_plan
from launchers.providers import open_provider
from launchers.providers.base import Need
from launchers.registry import descriptors, markets

INSTEAD = "`python -m launchers offers --list` shows published prices without an account."


def offers(options: argparse.Namespace) -> int:
    need = Need(
        find_card(options.gpu).name if options.gpu else None, options.num_gpus, 0.0, options.disk_gb, 0.0, None, options.spot,
        max_price=options.max_price,
    )  # fmt: skip
    if options.list:
        return _list_prices(need, options.json)
    rows: list[dict[str, Any]] = []
    problems: dict[str, LaunchError] = {}
    unfit: list[str] = []
    for name in markets():
        try:
            found = open_provider(name, url_for(options.api_url, name)).offers(need)
        except LaunchError as error:
            problems[name] = error
            continue
        fitting, why_none = _fitting(need, found)
        rows += fitting
        unfit += [f"{name}: {why_none}"] if why_none else []
    if len(problems) == len(markets()):
        raise _nobody(problems)
    notes = [*unfit, price_sources(row["provider"] for row in rows)]
    if problems:
        notes.append(missing_text("Not asked, or without an answer:", problems))
    _show_offers(rows, notes, options.json)
    return 0


def _nobody(problems: dict[str, LaunchError]) -> LaunchError:
    """No provider answered: the missing keys if there is no key at all, else the errors of the providers that have one."""
    asked = {name: problem for name, problem in problems.items() if not isinstance(problem, NoKey)}
    if not asked:
        return no_provider(problems, INSTEAD)
    return LaunchError(missing_text("No provider answered:", asked)) if len(asked) > 1 else next(iter(asked.values()))


def _fitting(need: Need, found: list[Offer]) -> tuple[list[dict[str, Any]], str]:
    """Rows of the offers that fit; where there is none, why."""
    plan = make_plan(need, found, Forecast(1.0, True, 0.0))
    kinds = plan.candidates if need.spot else (*plan.candidates, *plan.alternatives)
    return [offer_row(c.offer) for c in kinds], "" if kinds else plan.why_none()


def _show_offers(rows: list[dict[str, Any]], notes: list[str], as_json: bool) -> None:
    rows.sort(key=lambda row: (row["card"], row["$/h"]))
    show(offers_table(rows, "\n".join(note for note in notes if note)), as_json)


def _list_prices(need: Need, as_json: bool) -> int:
    """Published prices, of the providers that publish any. Sends no request."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    without = []
    for name in markets():
        provider = descriptors()[name]
        if provider.list_prices is None:
            without += [name] if name in markets() else []
            continue
        prices = provider.list_prices(need)
        fitting, why_none = _fitting(need, list(prices.offers))
        if not prices.offers:
            why_none = f"no {need.gpu or 'card'} in its list prices of {prices.dated} ({prices.source})."
        rows += [row | {"as_of": prices.dated, "source": prices.source} for row in fitting]
        notes.append(f"{name}: {why_none}" if why_none else f"{name}: list prices of {prices.dated} ({prices.source}).")
    notes.append("Whether a card is free is not known without an account.")
    if without:
        notes.append(f"Without a published list: {', '.join(without)}.")
    _show_offers(rows, notes, as_json)
    return 0


def estimate(options: argparse.Namespace) -> int:
    """Dry runs of the app for each hardware and provider, in one table."""
    hardware = options.hardware.split(",") if options.hardware else _rentable_hardware(options.app)
    keyless: dict[str, LaunchError] = {}
    if options.provider:
        providers = options.provider.split(",")
    else:
        keyless = {name: problem for name in markets() if (problem := _no_key(name)) is not None}
        # Without any key, the published prices are all that can be said.
        providers = [name for name in markets() if name not in keyless] or [
            name for name, provider in descriptors().items() if provider.list_prices is not None
        ]
    if not providers:
        raise no_provider(keyless)
    rows: list[dict[str, Any]] = []
    problems: list[LaunchError] = []
    for name in providers:
        try:
            rows += _dry_runs(options, hardware, name)
        except LaunchError as error:
            problems.append(error)
    if not rows and problems:
        raise problems[0]
    rows.sort(key=lambda row: hardware.index(row["hardware"]))
    notes = ["Each row is the cheapest offer of its kind that fits now."]
    notes += [*(str(problem) for problem in problems), price_sources(row["provider"] for row in rows)]
    if keyless:
        notes.append(missing_text("Without a key:", keyless))
    show(estimate_table(rows, [note for note in notes if note]), options.json)
    return 0


def _dry_runs(options: argparse.Namespace, hardware: list[str], provider: str) -> list[dict[str, Any]]:
    """Dry runs at one provider: Hydra composes a sweep with the default provider, whose config lacks the keys of others."""
    chosen = [f"hardware={','.join(repr(name) for name in hardware)}", f"provider={provider}", "provider.dry_run=true"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows"
        command = [sys.executable, "-m", options.app, "-m", *options.overrides, *chosen]
        done = subprocess.run(
            command, env=os.environ | {ESTIMATE_FILE: str(file)}, capture_output=True, text=True, check=False
        )
        if done.returncode or not file.exists():
            said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            told = [line for line in said if "HYDRA_FULL_ERROR" not in line]
            raise MendInput(f"{provider}: {told[-1] if told else 'The job could not be composed.'}")
        return [json.loads(line) for line in file.read_text().splitlines()]


def _rentable_hardware(app: str) -> list[str]:
    """The hardware options of the app that name a GPU."""
    import importlib.util

    spec = importlib.util.find_spec(app)
    if spec is None or not spec.origin:
        raise MendInput(f"Unknown app: {app}. Name its module with --app.")
    package = Path(spec.origin).parent
    for folder in (package / "conf" / "hardware", package.parent / "conf" / "hardware"):
        if folder.is_dir():
            return sorted(
                f.stem for f in folder.glob("*.yaml") if "gpu: null" not in f.read_text() and "gpu:" in f.read_text()
            )
    raise MendInput(f"{app} has no hardware options in its conf folder. Name them with --hardware.")


def _no_key(name: str) -> NoKey | None:
    """The error of a provider without a key; None if there is a key."""
    try:
        open_provider(name)
    except NoKey as error:
        return error
    except CredentialError:
        pass  # its dry run says what is wrong with it
    return None

"""offers, estimate: what one looks at before renting."""

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
from launchers.cli.tables import Sheet, candidate_row, show
from launchers.errors import CredentialError, LaunchError, MendInput, NoKey
from launchers.gpus import find_card
from launchers.launcher import ESTIMATE_FILE
from launchers.plan import Forecast, make_plan
from launchers.providers import open_provider, sign_up
from launchers.providers.base import Need
from launchers.registry import names


def offers(options: argparse.Namespace) -> int:
    need = Need(
        find_card(options.gpu).name if options.gpu else None, options.num_gpus, 0.0, options.disk_gb, 0.0, None, options.spot,
        max_price=options.max_price,
    )  # fmt: skip
    rows: list[dict[str, Any]] = []
    problems: list[LaunchError] = []
    unfit: list[str] = []
    for name in names():
        try:
            found = open_provider(name, url_for(options.api_url, name)).offers(need)
        except LaunchError as error:
            problems.append(error)
            continue
        plan = make_plan(need, found, Forecast(1.0, True, 0.0))
        kinds = plan.candidates if options.spot else (*plan.candidates, *plan.alternatives)
        rows += [candidate_row(c) for c in kinds]
        if not kinds and found:
            unfit.append(plan.why_none())
    if len(problems) == len(names()):
        # A key that is there and does not work says more than those that the user never had.
        raise next((problem for problem in problems if not isinstance(problem, NoKey)), problems[0])
    rows.sort(key=lambda row: (row["card"], row["$/h"]))
    columns = ("provider", "offer", "card", "gib", "kind", "$/h", "mbit/s", "reliability", "region")
    note = " ".join([*(str(problem) for problem in problems), *unfit, _sources(rows)])
    show(Sheet("Offers", columns, rows, note, frozenset({"$/h", "gib", "mbit/s", "reliability"})), options.json)
    return 0


def _sources(rows: list[dict[str, Any]]) -> str:
    """Where the prices of a table come from, by provider."""
    names = sorted({row["provider"] for row in rows})
    return "Prices: " + "; ".join(f"{name}: {sign_up(name).prices}" for name in names) + "." if names else ""


def estimate(options: argparse.Namespace) -> int:
    """Dry runs of the app over hardware x provider, gathered in one table."""
    hardware = options.hardware.split(",") if options.hardware else _rentable_hardware(options.app)
    providers = options.provider.split(",") if options.provider else [name for name in names() if _has_key(name)]
    if not providers:
        raise CredentialError("No provider's key is set: `python -m launchers doctor` says how to get one.")
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
    columns = ("hardware", "provider", "card", "kind", "$/h", "hours", "$_job", "note")
    note = (
        "Cheapest fitting offer of each kind now. Hours marked 'at most' are provider.max_hours: no forecast is known."
    )
    note = " ".join([note, *(str(problem) for problem in problems), _sources(rows)])
    show(Sheet("Estimate", columns, rows, note, frozenset({"$/h", "hours", "$_job"})), options.json)
    return 0


def _dry_runs(options: argparse.Namespace, hardware: list[str], provider: str) -> list[dict[str, Any]]:
    """A provider at a time: Hydra composes a sweep once with the default one, whose config lacks the others' keys."""
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
            raise MendInput(f"{provider}: {told[-1] if told else 'the job could not be composed.'}")
        return [json.loads(line) for line in file.read_text().splitlines()]


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
    except NoKey:
        return False
    except CredentialError:
        pass  # its dry run says what is wrong with it
    return True

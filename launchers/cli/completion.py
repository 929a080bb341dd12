"""Completion in the shell, by argcomplete: the shell runs the command itself at each press of the Tab key."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

SHELLS = ("bash", "zsh", "fish")
RECENT = 20
"""Launches whose jobs are proposed, beside those that are open."""


def completion(options: argparse.Namespace) -> int:
    """Print what a shell evaluates at its start."""
    from argcomplete.shell_integration import shellcode

    from launchers.cli.tables import print_json

    code = shellcode(["launchers"], shell=options.shell)
    if options.json:
        print_json({"shell": options.shell, "code": code})
    else:
        print(code)
    return 0


def answer_shell(parser: argparse.ArgumentParser) -> None:
    """Answer and exit, if it is the shell that asks."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


def job_ids(prefix: str, **_: Any) -> list[str]:
    """Short ids of the jobs and launches that are open or recent."""
    from launchers.errors import LaunchError
    from launchers.formats import short_id
    from launchers.ledger import Ledger, launchers_home

    found: dict[str, None] = {}
    with contextlib.suppress(LaunchError):
        if (launchers_home() / "ledger.sqlite").exists():
            ledger = Ledger.open()
            names = [*ledger.launches(only_open=True), *ledger.launches()[-RECENT:]]
            for launch in dict.fromkeys(names):
                found |= dict.fromkeys([short_id(launch), *(short_id(job.spec.id) for job in ledger.jobs(launch))])
    return [name for name in found if name.startswith(prefix)]


def card_names(**_: Any) -> list[str]:
    """As they can be typed without quotes."""
    from launchers.gpus import CARDS

    return list(dict.fromkeys(name.replace(" ", "-") for card in CARDS for name in (*card.aliases, card.name)))

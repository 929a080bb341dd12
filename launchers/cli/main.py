"""The command line: what each command is called and takes, and how errors end. What it does is in the modules beside this one.

Imports nothing heavy: completion runs it at each press of the Tab key.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from launchers.cli.completion import SHELLS, answer_shell, card_names, completion, job_ids
from launchers.console import discard, guard_console
from launchers.errors import LaunchError, StillBilled
from launchers.registry import names

_EPILOG = """\
JOB is any unique part of the id of a job (e725-0) or of a launch (e725: then all its jobs), as `ps` prints them.
logs, attach, fetch and cancel take the last launch if it is left out.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 something may still be billed, 130 interrupted.
"""
CLOSED_PIPE = 141
"""Exit code when the reader of the output has closed it (`| head`), as for other programs."""
_LOOKS_FIRST = ("offers", "estimate", "doctor", "ps", "cost")
"""Commands that need nothing from a machine: they destroy overdue machines first."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="launchers" if Path(sys.argv[0]).name == "launchers" else "python -m launchers",
        description="Rented machines and the jobs on them: compare prices, list what runs and what is billed, reconnect, stop.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="store_true", help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON, and nothing else, to stdout")
        return added

    offers = command("offers", "Compare what the providers have on offer now.")
    gpu = offers.add_argument("--gpu", help="card, by any common name: 4090, A100, H100 (default: any)")
    _completes(gpu, card_names)
    offers.add_argument("--spot", action="store_true", help="only interruptible machines")
    offers.add_argument("--max-price", type=float, help="$ per hour for the whole machine")
    offers.add_argument("--num-gpus", type=int, default=1, help="cards per machine (default: %(default)s)")
    offers.add_argument("--disk-gb", type=float, default=100, help="disk per machine (default: %(default)g)")
    offers.add_argument("--list", action="store_true", help="published list prices; needs no account")
    _api_url(offers)

    estimate = command("estimate", "Estimate the time and cost of a job on every hardware and provider.")
    estimate.add_argument("--app", default="summarizer", help="module of the Hydra app (default: %(default)s)")
    estimate.add_argument("--hardware", help="comma list of hardware options (default: all that name a card)")
    estimate.add_argument("--provider", help="comma list of provider options (default: all you have a key for)")
    estimate.add_argument("overrides", nargs="*", help="of the job, as on its own command line")

    doctor = command(
        "doctor", "Check API keys, ssh, balance and package versions, and explain how to fix what is missing."
    )
    doctor.add_argument("--provider", choices=names(), help="the one that must be ready (default: any)")
    doctor.add_argument(
        "--rotate-key",
        action="store_true",
        help="remove our ssh keys that no open launch needs, here and in each account",
    )
    doctor.add_argument(
        "--same-account",
        action="store_true",
        help="the API key was replaced: use the new one for machines that were rented with the old one",
    )
    _api_url(doctor)

    ps = command("ps", "List jobs that run or wait, and machines that are billed.")
    ps.add_argument("--all", action="store_true", help="also those that ended")

    logs = command("logs", "Print a job's log.")
    _job(logs, optional=True)
    logs.add_argument("-f", "--follow", action="store_true", help="until the job ends; Ctrl-C leaves the job running")

    attach = command(
        "attach", "Reconnect to a launch: stream its logs, download its results, and destroy its machines at the end."
    )
    _job(attach, optional=True)

    fetch = command("fetch", "Download what a job has written so far; does not affect the job.")
    _job(fetch, optional=True)

    cancel = command("cancel", "Stop a job gracefully: save a checkpoint, download the results, destroy the machine.")
    _job(cancel, optional=True)

    stop = command("stop", "Destroy the machines of a launch now, without downloading anything.")
    _job(stop)
    stop.add_argument("--yes", action="store_true", help="do not ask for confirmation")

    reap = command("reap", "Destroy orphaned machines: created by this tool, and no client is attached.")
    reap.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    reap.add_argument(
        "--all-clients", action="store_true", help="also those that other ledgers of this account created"
    )
    _api_url(reap)

    cost = command("cost", "Add up what was spent, by job and provider.")
    _job(cost, optional=True)

    complete = command("completion", "Print the shell code that completes commands, options and job ids.")
    complete.add_argument("shell", choices=SHELLS)
    return top


def _api_url(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--api-url", action="append", default=[], metavar="[NAME=]URL",
        help="ask there instead of the provider's own address (an emulator's); NAME= for one provider, may be repeated",
    )  # fmt: skip


def _job(command: argparse.ArgumentParser, optional: bool = False) -> None:
    added = command.add_argument("job", metavar="JOB", nargs="?" if optional else None, help="any unique part of an id")
    _completes(added, job_ids)


def _completes(argument: argparse.Action, completer: Callable[..., list[str]]) -> None:
    """What argcomplete proposes for it."""
    argument.completer = completer  # type: ignore[attr-defined]


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code."""
    with contextlib.suppress(AttributeError):  # a stream of a test or a notebook
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(parser(), arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        discard(sys.stdout)
        return CLOSED_PIPE


def _run(top: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    answer_shell(top)
    options = top.parse_args(arguments)
    if options.version:
        print(f"launchers {_version()}")
        return 0
    if not options.command:
        top.print_help()
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("launchers").setLevel(logging.INFO)
    guard_console()
    try:
        with _plain_errors():
            return _act(options)
    except StillBilled as error:
        print(error, file=sys.stderr)
        return 3
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. `python -m launchers ps` lists running jobs and billed machines.", file=sys.stderr)
        return 130


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("summarizer")


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """A folder or ledger that cannot be written ends in an error message, without a traceback."""
    import sqlite3

    try:
        yield
    except BrokenPipeError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise LaunchError(
            f"The command failed: {error}. Check that the disk has space and that LAUNCHERS_HOME is writable; "
            "`python -m launchers ps` lists running jobs and billed machines."
        ) from None


def _act(options: argparse.Namespace) -> int:
    from launchers.cli import doctor, jobs, logs, market, money, overdue
    from launchers.cli.tables import json_alone

    acts: dict[str, Any] = {
        "offers": market.offers, "estimate": market.estimate, "doctor": doctor.doctor,
        "ps": jobs.ps, "logs": logs.logs, "attach": jobs.attach, "fetch": jobs.fetch, "cancel": jobs.cancel,
        "stop": money.stop, "reap": money.reap, "cost": money.cost, "completion": completion,
    }  # fmt: skip
    with json_alone() if options.json else contextlib.nullcontext():
        if options.command in _LOOKS_FIRST and not getattr(options, "list", False):
            overdue.end_overdue()
        code: int = acts[options.command](options)
    return code

"""The command line: what each command is called and takes; what it does is in the modules beside this one."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from launchers.errors import LaunchError, StillBilled
from launchers.registry import names

_EPILOG = """\
JOB is a job's id, a launch's id (then all its jobs), or a unique beginning of one, as `ps` prints them.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 something may still be billed, 130 interrupted.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m launchers",
        description="Lease machines and the jobs on them: what they would cost, what runs, what is still billed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--json", action="store_true", help="print JSON instead of a table")
        return added

    offers = command("offers", "Compare what all providers you hold a key for have on offer now.")
    offers.add_argument("--gpu", help="card, by any common name: 4090, A100, H100 (default: any)")
    offers.add_argument("--spot", action="store_true", help="only interruptible machines")
    offers.add_argument("--max-price", type=float, help="$ per hour for the whole machine")
    offers.add_argument("--num-gpus", type=int, default=1)
    offers.add_argument("--disk-gb", type=float, default=100)
    _market_options(offers)

    estimate = command("estimate", "Hours and $ of a composed job on every hardware and provider.")
    estimate.add_argument("--app", default="summarizer", help="module of the Hydra app (default: %(default)s)")
    estimate.add_argument("--hardware", help="comma list of hardware options (default: all that name a card)")
    estimate.add_argument("--provider", help="comma list of provider options (default: all you hold a key for)")
    estimate.add_argument("overrides", nargs="*", help="of the job, as on its own command line")

    doctor = command(
        "doctor", "Check keys, ssh, balance and versions: what is missing, and the way there for a newcomer."
    )
    doctor.add_argument("--provider", choices=names(), help="the one that must be ready (default: any)")
    doctor.add_argument(
        "--rotate-key",
        action="store_true",
        help="remove ssh keys of ours that no open launch needs, here and in each account",
    )
    doctor.add_argument(
        "--same-account",
        action="store_true",
        help="the API key was replaced: use the new one for machines rented with the old",
    )
    _market_options(doctor)

    ps = command("ps", "Jobs that run or wait, and machines that are billed.")
    ps.add_argument("--all", action="store_true", help="also what has ended")

    logs = command("logs", "A job's log.")
    logs.add_argument("job")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")

    attach = command("attach", "Take up a launch whose client is gone: stream, sync, finish, give back.")
    attach.add_argument("job")

    fetch = command("fetch", "Bring home what a job has written so far; changes nothing on the machine.")
    fetch.add_argument("job")

    cancel = command(
        "cancel", "End a job in good order: it saves its state, results come home, the machine is given back."
    )
    cancel.add_argument("job")

    stop = command("stop", "End the machines of a launch now, without fetching anything.")
    stop.add_argument("job")
    stop.add_argument("--yes", action="store_true", help="do not ask")

    reap = command("reap", "Find machines of ours that nobody attends to, and end them.")
    reap.add_argument("--yes", action="store_true", help="do not ask")
    reap.add_argument(
        "--all-clients", action="store_true", help="also those that other ledgers of this account created"
    )
    _market_options(reap)

    cost = command("cost", "What was spent so far, by job and provider; an estimate from hours and rates.")
    cost.add_argument("job", nargs="?")
    return top


def _market_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--api-url", action="append", default=[], metavar="[NAME=]URL",
        help="ask there instead of the provider's own address (an emulator's); NAME= for one provider, may be repeated",
    )  # fmt: skip


def run(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("launchers").setLevel(logging.INFO)
    try:
        return _act(options)
    except StillBilled as error:
        print(error, file=sys.stderr)
        return 3
    except LaunchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted; `python -m launchers ps` shows what runs and what is billed.", file=sys.stderr)
        return 130


def _act(options: argparse.Namespace) -> int:
    from launchers.cli import doctor, jobs, market, money, overdue

    acts = {
        "offers": market.offers, "estimate": market.estimate, "doctor": doctor.doctor,
        "ps": jobs.ps, "logs": jobs.logs, "attach": jobs.attach, "fetch": jobs.fetch, "cancel": jobs.cancel,
        "stop": money.stop, "reap": money.reap, "cost": money.cost,
    }  # fmt: skip
    if options.command in ("offers", "estimate", "doctor", "ps", "cost"):  # the others may want what is on a machine
        overdue.end_overdue()
    return acts[options.command](options)

"""stop, reap, cost: what ends rentals and adds them up."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence

from launchers.cli.endpoints import url_for
from launchers.cli.jobs import MACHINE_COLUMNS, _context, machine_row
from launchers.cli.tables import Sheet, show
from launchers.clock import WallClock, pauses
from launchers.errors import CredentialError, LaunchError, MendInput, StillBilled
from launchers.job import Billing, JobSpec, JobState, MachineStatus, is_our_label
from launchers.launcher import close_if_done
from launchers.ledger import SETTLE_S, Ledger, MachineRecord, launchers_home
from launchers.lifecycle.ended import settle_proven
from launchers.lifecycle.reconnect import claimed
from launchers.lifecycle.release import confirm_gone, lease_end, release, still_billed
from launchers.providers import open_provider, stop_command
from launchers.providers.base import Provider
from launchers.registry import names
from launchers.settings import Timing

DESTROY_TOTAL_S = 60.0
OVERDUE_S = 300.0
"""Beyond its deadline, for a living client to destroy a machine and confirm it."""


def stop(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    records = ledger.find(options.job)
    launch = records[0].launch
    machines = [m for m in ledger.machines(launch) if m.billing is not Billing.gone]
    if not machines:
        raise MendInput(f"Launch {launch} has no machine that is billed.")
    show(Sheet("Ends now", MACHINE_COLUMNS, [machine_row(m, time.time()) for m in machines]), options.json)
    if not _agreed(options, "End these machines without fetching anything?"):
        return 1
    context = _context(ledger, records[0])
    for record in ledger.jobs(launch):
        if not record.state.ended:
            ledger.request_cancel(record.spec.id)
    for machine in machines:
        release(context, machine.label)
    settle_proven(ledger, launch, time.time())
    for record in ledger.jobs(launch):
        if not record.state.ended:
            ledger.job_ended(record.spec.id, JobState.cancelled, "stopped", time.time())
    close_if_done(ledger, launch)
    return 0


def reap(options: argparse.Namespace) -> int:
    """Everything billed that carries our label or that this ledger created, and that no living client attends to."""
    ledger = Ledger.open()
    rows, found = [], []
    silent: list[str] = []
    for provider, api_url in _providers(ledger, options.api_url):
        try:
            machines = provider.list_mine()
        except LaunchError as error:
            # One market that does not answer must not keep the machines of the others.
            silent.append(f"{provider.name}: {error}")
            continue
        for machine in machines:
            if _is_orphan(ledger, (provider.name, api_url), machine, options.all_clients):
                found.append((provider, api_url, machine))
                rows.append(
                    {
                        "machine": machine.label, "provider": provider.name, "instance": machine.instance,
                        "card": machine.gpu, "state": machine.state.value, "$/h": machine.price,
                    }
                )  # fmt: skip
    show(
        Sheet("Billed, and attended to by nobody", ("machine", "provider", "instance", "card", "state", "$/h"), rows),
        options.json,
    )
    if found and not _agreed(options, f"End {len(found)} machine(s)?"):
        return 1
    problems = [problem for provider, url, machine in found if (problem := _end(ledger, provider, url, machine))]
    problems += silent
    _settle_gone(ledger, options.api_url)
    problems += [
        still_billed(m, "and it is not listed yet") for m in ledger.machines() if m.unsettled and not _is_held(m)
    ]
    if problems:
        raise StillBilled(" ".join(problems))
    return 0


def cost(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    now = time.time()
    wanted = {r.launch for r in ledger.find(options.job)} if options.job else None
    by_provider: dict[str, float] = {}
    for machine in ledger.machines():
        if wanted is None or machine.launch in wanted:
            by_provider[machine.provider] = by_provider.get(machine.provider, 0.0) + machine.cost(now)
    jobs = [r for r in ledger.jobs() if wanted is None or r.launch in wanted]
    rows = [{"what": r.spec.id, "provider": r.spec.settings["name"], "$": r.cost} for r in jobs]
    rows += [{"what": "all machines", "provider": name, "$": total} for name, total in sorted(by_provider.items())]
    note = "By our own meter: seconds times the billed rate. Traffic and the provider's rounding are not in it."
    show(Sheet("Spent", ("what", "provider", "$"), rows, note, frozenset({"$"})), options.json)
    return 0


def _agreed(options: argparse.Namespace, question: str) -> bool:
    if options.yes:
        return True
    if not sys.stdin.isatty():
        print(f"{question} Nothing was done: say --yes in a script.", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _providers(ledger: Ledger, given: Sequence[str]) -> list[tuple[Provider, str | None]]:
    """Every market this ledger rented at and has open ends, and those a key is here for.

    A ledger that only ever rehearsed with an emulator does not ask the real markets.
    """
    machines = ledger.machines()
    rehearsal = bool(machines) and all(machine.api_url for machine in machines) and not given
    places: set[tuple[str, str | None]] = set() if rehearsal else {(name, url_for(given, name)) for name in names()}
    places |= {(m.provider, m.api_url) for m in machines if m.billing is not Billing.gone}
    opened, problems = [], []
    for name, url in sorted(places, key=str):
        try:
            opened.append((open_provider(name, url), url))
        except CredentialError as error:
            problems.append(error)
    if not opened and problems:
        raise problems[0]
    return opened


def _rented_at(ledger: Ledger, market: tuple[str, str | None]) -> list[MachineRecord]:
    """What this ledger rented at one market: another may give the same number to a machine that is not ours."""

    def plain(name: str, url: str | None) -> tuple[str, str]:
        return name, (url or "").rstrip("/")

    return [m for m in ledger.machines() if plain(m.provider, m.api_url) == plain(*market)]


def _is_orphan(ledger: Ledger, market: tuple[str, str | None], machine: MachineStatus, all_clients: bool) -> bool:
    record = next((m for m in _rented_at(ledger, market) if m.instance == machine.instance), None)
    labelled = next((m for m in ledger.machines() if m.label == machine.label), None)
    # A foreign machine may carry any label, also one of ours by chance or malice, but not one that we wrote as an intent
    # under this ledger's own random name.
    if record is None and labelled is None and not is_our_label(machine.label, None if all_clients else ledger.client):
        return False
    owner = record or labelled
    return owner is None or not _is_attended(ledger, owner.launch, owner)


def _is_held(machine: MachineRecord) -> bool:
    """Whether a living client holds the launch of a machine."""
    try:
        with claimed(launchers_home(), machine.launch):
            return False
    except MendInput:
        return True


def _is_attended(ledger: Ledger, launch: str, machine: MachineRecord | None = None) -> bool:
    """Whether a living client holds the launch, or its job runs on as it should; past its deadline, neither counts.

    Of one `machine`, where one is given: a client that hangs must not protect it for ever.
    """
    jobs = ledger.jobs(launch)
    if machine is not None and jobs and time.time() >= deadline_of(machine, jobs[0].spec) + OVERDUE_S:
        return False
    try:
        with claimed(launchers_home(), launch):
            pass
    except MendInput:
        return True
    machines = [m for m in ledger.machines(launch) if m.billing is not Billing.gone]
    # A detached job is left alone: `attach` is what ends it.
    running = [j for j in jobs if j.state is JobState.running and j.spec.settings["detach"]]
    return bool(running and any(time.time() < deadline_of(m, jobs[0].spec) for m in machines))


def deadline_of(machine: MachineRecord, job: JobSpec) -> float:
    """When the client of a machine destroys it, whatever it says."""
    if machine.deadline is not None:
        return machine.deadline
    hours = float(job.settings["max_hours"])  # written before ledgers knew deadlines, or billed by what its jobs run
    return machine.created + hours * 3600 + job.timing["grace"] + job.timing.get("fetch", Timing.fetch)


def _end(ledger: Ledger, provider: Provider, api_url: str | None, machine: MachineStatus) -> str | None:
    """Destroy and confirm; returns what went wrong."""
    problem = ""
    for _ in pauses(WallClock(), 0.5, DESTROY_TOTAL_S):
        try:
            if confirm_gone(provider, machine.instance, "") is None:
                for record in _rented_at(ledger, (provider.name, api_url)):
                    if record.billing is Billing.gone:
                        continue
                    if record.instance is None and record.label == machine.label:
                        ledger.machine_created(record.label, machine.instance)
                    elif record.instance != machine.instance:
                        continue
                    ledger.machine_gone(record.label, time.time())
                return None
        except LaunchError as error:
            problem = str(error)
    return (
        f"STILL BILLED: {provider.name} instance {machine.instance} could not be confirmed gone ({problem}); it costs "
        f"${machine.price:.3f} per hour: stop it with `{stop_command(provider.name, machine.instance)}`."
    )


def _settle_gone(ledger: Ledger, given: Sequence[str]) -> None:
    """Mark as gone what no provider lists any more, and end the jobs of launches that have no machine left."""
    alive: set[tuple[str, str | None]] = set()
    asked: dict[tuple[str, str | None], str] = {}
    for provider, url in _providers(ledger, given):
        with contextlib.suppress(LaunchError):
            for machine in provider.list_mine():
                alive |= {(provider.name, machine.instance), (provider.name, machine.label)}
            asked[provider.name, url] = provider.account
    now = time.time()
    for record in ledger.machines():
        if (
            record.billing is Billing.gone
            or (record.unsettled and now < record.created + SETTLE_S)  # a list may lag
            or (record.provider, record.api_url) not in asked
            # Another account's list says nothing about it.
            or record.account not in (None, asked[record.provider, record.api_url])
            or _is_attended(ledger, record.launch)
        ):
            continue
        if not {(record.provider, record.instance), (record.provider, record.label)} & alive:
            # Nobody saw when: it is charged to the end of its lease at most.
            ledger.machine_gone(record.label, lease_end(record, now))
    for launch in ledger.launches(only_open=True):
        machines = ledger.machines(launch)
        if any(m.billing is not Billing.gone for m in machines) or _is_attended(ledger, launch):
            continue
        if not all(m.bills_idle for m in machines):
            continue  # an application ends with its last job: their results wait for `attach`
        for job in ledger.jobs(launch):
            if job.state is JobState.running:
                # It may be taken up again: what was synced is here.
                ledger.job_requeued(job.spec.id, lost=False)

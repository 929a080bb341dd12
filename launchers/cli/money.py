"""stop, reap, cost: destroy machines and add up what they cost."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from launchers.cli.endpoints import url_for
from launchers.cli.job_tables import job_rows, machines_table
from launchers.cli.keys import missing_text, no_provider
from launchers.cli.prompts import agreed
from launchers.cli.reopen import context_of, has_client, is_attended
from launchers.cli.selection import NO_JOBS, find_jobs
from launchers.cli.tables import Sheet, print_lines, show
from launchers.clock import WallClock, pauses
from launchers.errors import CredentialError, LaunchError, MendInput, StillBilled
from launchers.formats import count, short_id, short_label
from launchers.job import Billing, JobState, MachineStatus, is_our_label
from launchers.ledger import SETTLE_S, Ledger, MachineRecord
from launchers.lifecycle.ended import settle_proven
from launchers.lifecycle.opening import close_if_done
from launchers.lifecycle.release import confirm_gone, lease_end, release, still_billed
from launchers.providers import open_provider, stop_command
from launchers.providers.base import Provider
from launchers.registry import markets

DESTROY_TOTAL_S = 60.0


def stop(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    records = find_jobs(ledger, options.job)
    launch = records[0].launch
    machines = [m for m in ledger.machines(launch) if m.billing is not Billing.gone]
    if not machines:
        raise MendInput(f"Launch {short_id(launch)} has no machine that is billed: nothing to stop.")
    show(machines_table(machines, time.time(), "To be destroyed"), options.json)
    if not agreed(options.yes, "Destroy these machines without downloading anything?"):
        return 1
    context = context_of(ledger, records[0])
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
    """Destroy billed machines with our label or from this ledger that no client is attached to."""
    ledger = Ledger.open()
    rows, found = [], []
    opened, keyless = _providers(ledger, options.api_url)
    problems: list[str] = []
    for provider, api_url in opened:
        try:
            machines = provider.list_mine()
        except LaunchError as error:
            # A market that does not answer must not keep machines of others alive.
            problems.append(f"{provider.name}: {error}")
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
    note = missing_text("Not checked, because there is no key:", keyless) if keyless else ""
    _show_orphans(rows, note, options.json)
    if found and not agreed(options.yes, f"Destroy {count(len(found), 'machine')}?"):
        return 1
    problems += [
        f"{still_billed(m, 'there is no key to check it with')} {keyless[m.provider]}"
        for m in ledger.machines()
        if m.billing is not Billing.gone and m.provider in keyless
    ]
    problems += [problem for provider, url, machine in found if (problem := _end(ledger, provider, url, machine))]
    _settle_gone(ledger, opened)
    problems += [
        still_billed(m, "and it is not listed yet")
        for m in ledger.machines()
        if m.unsettled and m.provider not in keyless and not has_client(m.launch)
    ]
    if problems:
        raise StillBilled(" ".join(problems))
    return 0


def _show_orphans(rows: list[dict[str, Any]], note: str, as_json: bool) -> None:
    if rows or as_json:
        columns = ("machine", "provider", "instance", "card", "state", "$/h")
        title = "Orphaned machines that are still billed"
        show(Sheet(title, columns, rows, note, frozenset({"$/h"}), formats={"machine": short_label}), as_json)
        return
    print_lines(["No orphaned machine is billed.", *note.splitlines()])


def cost(options: argparse.Namespace) -> int:
    ledger = Ledger.open()
    now = time.time()
    wanted = {r.launch for r in find_jobs(ledger, options.job)} if options.job else None
    machines = [m for m in ledger.machines() if wanted is None or m.launch in wanted]
    jobs = [r for r in ledger.jobs() if wanted is None or r.launch in wanted]
    by_provider: dict[str, float] = {}
    for machine in machines:
        by_provider[machine.provider] = by_provider.get(machine.provider, 0.0) + machine.cost(now)
    rows = [{"what": row["job"], "provider": row["provider"], "$": row["$"]} for row in job_rows(jobs, machines, now)]
    rows += [{"what": "all machines", "provider": name, "$": total} for name, total in sorted(by_provider.items())]
    if not rows and not options.json:
        print(NO_JOBS)
        return 0
    note = "Estimated from run time x hourly rate; excludes traffic and provider rounding."
    sheet = Sheet("Spent", ("what", "provider", "$"), rows, note, frozenset({"$"}), formats={"what": short_id})
    show(sheet, options.json)
    return 0


Opened = list[tuple[Provider, str | None]]


def _providers(ledger: Ledger, given: Sequence[str]) -> tuple[Opened, dict[str, LaunchError]]:
    """The markets where this ledger has machines, and those with a key; and the errors of those without one.

    A ledger that was only used with emulators does not ask the real markets.

    Raises:
        CredentialError: there is no key at all.
    """
    machines = ledger.machines()
    rehearsal = bool(machines) and all(machine.api_url for machine in machines) and not given
    asked: set[tuple[str, str | None]] = set() if rehearsal else {(name, url_for(given, name)) for name in markets()}
    asked |= {(m.provider, m.api_url) for m in machines if m.billing is not Billing.gone}
    opened: Opened = []
    keyless: dict[str, LaunchError] = {}
    for name, url in sorted(asked, key=str):
        try:
            opened.append((open_provider(name, url), url))
        except CredentialError as error:
            keyless[name] = error
    if keyless and not opened and all(m.billing is Billing.gone for m in machines):
        raise no_provider(keyless)
    return opened, keyless


def _rented_at(ledger: Ledger, market: tuple[str, str | None]) -> list[MachineRecord]:
    """Machines that this ledger rented at one market: at another, the same id may be a machine that is not ours."""

    def plain(name: str, url: str | None) -> tuple[str, str]:
        return name, (url or "").rstrip("/")

    return [m for m in ledger.machines() if plain(m.provider, m.api_url) == plain(*market)]


def _is_orphan(ledger: Ledger, market: tuple[str, str | None], machine: MachineStatus, all_clients: bool) -> bool:
    record = next((m for m in _rented_at(ledger, market) if m.instance == machine.instance), None)
    labeled = next((m for m in ledger.machines() if m.label == machine.label), None)
    # A foreign machine may carry any label, also one of ours by chance or malice, but not one that we wrote as an intent
    # under this ledger's own random name.
    if record is None and labeled is None and not is_our_label(machine.label, None if all_clients else ledger.client):
        return False
    owner = record or labeled
    return owner is None or not is_attended(ledger, owner.launch, owner)


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


def _settle_gone(ledger: Ledger, opened: Opened) -> None:
    """Mark as gone what no provider lists any more, and end the jobs of launches that have no machine left."""
    alive: set[tuple[str, str | None]] = set()
    asked: dict[tuple[str, str | None], str] = {}
    for provider, url in opened:
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
            or is_attended(ledger, record.launch)
        ):
            continue
        if not {(record.provider, record.instance), (record.provider, record.label)} & alive:
            # Nobody saw when: it is charged to the end of its lease at most.
            ledger.machine_gone(record.label, lease_end(record, now))
    for launch in ledger.launches(only_open=True):
        machines = ledger.machines(launch)
        if any(m.billing is not Billing.gone for m in machines) or is_attended(ledger, launch):
            continue
        if not all(m.bills_idle for m in machines):
            continue  # an application ends with its last job: their results wait for `attach`
        for job in ledger.jobs(launch):
            if job.state is JobState.running:
                # `attach` may resume it from what was synced.
                ledger.job_requeued(job.spec.id, lost=False)

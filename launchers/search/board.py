"""The console of a sweep while it runs: one live table on a terminal, elsewhere a line every minute."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from launchers.console import discard, is_closed
from launchers.formats import dollars, duration
from launchers.search.meter import Bill
from launchers.search.progress import Progress, progress_of
from launchers.search.settings import SweepSettings
from launchers.search.space import plain
from launchers.search.trials import Trial, TrialState

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from launchers.cli.tables import Sheet
    from launchers.search.sweep import Sweep

EVERY_S = 1.0
"""The table is drawn anew."""
LINE_EVERY_S = 60.0
"""Without a terminal."""
_OPTIONAL = ("step", "loss", "$/h", "$", "left")


class Board:
    """Shows a sweep. `say` is for what a person should read above the table; any thread may call it.

    Args:
        keys: that the sweep sets, as the command line has them.
    """

    def __init__(self, sweep: Sweep[Any], keys: Sequence[str]) -> None:
        self._sweep, self._keys = sweep, tuple(key.lstrip("+~") for key in keys)
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._out: TextIO | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While it lasts, the console is the board's."""
        with _own_console() as self._out:
            over = threading.Event()
            look = self._redraw if self._out.isatty() else self._lines
            watching = threading.Thread(target=look, args=(over,), name="sweep-board", daemon=True)
            with self._table() if self._out.isatty() else contextlib.nullcontext():
                watching.start()
                try:
                    yield
                finally:
                    over.set()
                    watching.join()
                    self._live = None

    def say(self, text: str) -> None:
        """Print a line above the table, once: jobs of a sweep tend to say the same."""
        with self._lock:
            if text.partition(": ")[2] in self._said:
                return
            self._said.add(text.partition(": ")[2])
        self._print(text)

    def _print(self, text: str) -> None:
        from rich.text import Text

        if self._live is not None:
            self._live.console.print(Text(text))
        elif self._out is not None:
            try:
                self._out.write(f"{text}\n")
                self._out.flush()
            except (OSError, ValueError) as error:
                if not is_closed(error):
                    raise
                discard(self._out)

    def _lines(self, over: threading.Event) -> None:
        while not over.wait(LINE_EVERY_S):
            with contextlib.suppress(OSError, sqlite3.Error):
                self._print(self._summary())

    def _redraw(self, over: threading.Event) -> None:
        # Here and not in a callback of the table, which would ask the sweep while it holds the console: the sweep logs while it
        # holds itself.
        assert self._live is not None
        while True:
            with contextlib.suppress(
                OSError, sqlite3.Error
            ):  # of the ledger: the next look shows what this one could not
                self._live.update(self._drawn(self._live.console.height), refresh=True)
            if over.wait(EVERY_S):
                return

    @contextlib.contextmanager
    def _table(self) -> Iterator[None]:
        from rich.console import Console
        from rich.live import Live

        with Live(console=Console(file=self._out), auto_refresh=False, transient=True) as self._live:
            yield

    def _drawn(self, height: int) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        from launchers.cli.tables import as_rich

        rows = rows_now(self._sweep.all(), self._keys, self._sweep.settings, self._sweep.meter(), _progress)
        sheet = sheet_of(rows, self._keys, self._sweep.settings, height - 8)
        hidden = len(rows) - len(sheet.rows)
        return Group(Text(self._summary()), as_rich(sheet), *([Text(f"... and {hidden} more")] if hidden else []))

    def _summary(self) -> str:
        sweep = self._sweep
        return summary(sweep.all(), sweep.settings, sweep.spent().dollars, sweep.spent().hours * 3600, sweep.executed)


@contextlib.contextmanager
def _own_console() -> Iterator[TextIO]:
    """Standard output as it is now, whatever becomes of the descriptor while a job runs in this process."""
    try:
        copy = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # closed, or no file
        yield sys.stdout
        return
    encoding = sys.stdout.encoding or "utf-8"
    with open(copy, "w", buffering=1, encoding=encoding, errors="backslashreplace") as out:
        yield out


def _progress(trial: Trial) -> Progress | None:
    """What the job's files say; a job that has not begun anew may have left some."""
    found = progress_of(Path(trial.folder))
    last = trial.reports[-1][0] if trial.reports else None
    if found is None:
        return Progress(last) if last is not None else None
    return replace(found, step=max(found.step, last or 0))


def rows_now(
    trials: Sequence[Trial],
    keys: Sequence[str],
    settings: SweepSettings,
    bills: Mapping[str, Bill],
    progress: Callable[[Trial], Progress | None],
) -> list[dict[str, Any]]:
    """One row per job, best first: those with a value, those that run without one yet, those that wait.

    Args:
        keys: that the sweep sets, without a plus.
        bills: of jobs that run, by their names in the ledger.
    """
    rows = [_row(trial, keys, settings, bills.get(trial.job or ""), progress) for trial in trials]
    order = [TrialState.running, TrialState.paused, TrialState.failed, TrialState.stopped, TrialState.waiting]

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        value, state = row["value"], row["trial"].state
        if value is not None:
            return (0, -settings.better * value, row["job"])
        return (1, order.index(state) if state in order else len(order), row["job"])

    return sorted(rows, key=place)


def _row(
    trial: Trial, keys: Sequence[str], settings: SweepSettings, bill: Bill | None,
    progress: Callable[[Trial], Progress | None],
) -> dict[str, Any]:  # fmt: skip
    params = {key.lstrip("+~"): plain(value) for key, value in trial.params.items()}
    runs = trial.state is TrialState.running
    found = progress(trial) if runs else None
    value = trial.value
    if runs and trial.reports:
        value = trial.reports[-1][1]
    seed = {settings.seed_key: trial.seed} if settings.seeds > 1 else {}
    steps = f"{found.step}/{found.steps}" if found and found.steps else str(found.step) if found else None
    state = (found.stage if found else None) or trial.state.value
    return {
        "trial": trial, "job": trial.number, **{key: params.get(key) for key in keys}, **seed,
        "state": "starting" if runs and bill is not None and not bill.has_started else state,
        "step": steps, "loss": found.loss if found else None, "value": value,
        "$/h": bill.price or None if bill else None, "$": (trial.cost + (bill.dollars if bill else 0.0)) or None,
        "left": duration(found.left_s) if found and found.left_s is not None else None,
    }  # fmt: skip


def sheet_of(rows: Sequence[dict[str, Any]], keys: Sequence[str], settings: SweepSettings, most: int) -> Sheet:
    """The table, of `most` rows at most: what runs is always there, then the best."""
    from launchers.cli.tables import Sheet

    metric = settings.metric or "value"
    seed = [settings.seed_key] if settings.seeds > 1 else []
    columns = ["job", *keys, *seed, "state", "step", "loss", "value", "$/h", "$", "left"]
    columns = [c for c in columns if c not in _OPTIONAL or any(row[c] is not None for row in rows)]
    kept = list(rows)
    while len(kept) > max(most, 1):
        spare = [row for row in kept if row["trial"].state is not TrialState.running] or kept
        kept.remove(spare[-1])
    headers = {name: name for name in (*keys, *seed)} | {"value": metric}
    figures = frozenset({"step", "loss", "value", "$/h", "$", "left"})
    return Sheet("", columns, kept, right=figures, headers=headers, wraps=frozenset())


def summary(
    trials: Sequence[Trial], settings: SweepSettings, spent: float, seconds: float, executed: Collection[int]
) -> str:
    """`3 of 20 jobs ended, 2 running; $0.41 of $5; 12 min, about 40 min left`."""
    total = settings.n_trials * settings.seeds if settings.searches else len(trials)
    ended = [trial for trial in trials if trial.state.ended]
    runs = sum(trial.state is TrialState.running for trial in trials)
    paused = sum(trial.state is TrialState.paused for trial in trials)
    parts = [
        f"{len(ended)} of {max(total, len(trials))} jobs ended, {runs} running"
        + (f", {paused} paused" if paused else "")
    ]
    if spent or settings.max_cost is not None:
        parts.append(
            f"{dollars(spent, '$')}" + (f" of ${settings.max_cost:g}" if settings.max_cost is not None else "")
        )
    time_text = duration(seconds) + (f" of {duration(settings.max_hours * 3600)}" if settings.max_hours else "")
    seen = [
        t for t in trials if t.state.ended or t.state is TrialState.paused
    ]  # most of those that wait will be pruned, too
    took = [trial.seconds for trial in seen if trial.number in executed and trial.seconds]
    to_come = max(total, len(trials)) - len(seen)
    if took and to_come > 0:
        left = to_come * sum(took) / len(took) / max(runs, 1)
        time_text += f", about {duration(left)} left"
    parts.append(time_text)
    return "; ".join(parts)

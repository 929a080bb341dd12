"""What a person reads at the end of a sweep; printed on standard output, as the tables of the launchers are."""

from __future__ import annotations

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from launchers.search.points import importance
from launchers.search.results import (
    Result,
    best_of,
    columns_of,
    measured,
    points_table,
    read_results,
    rows_of,
    write_files,
)
from launchers.search.settings import SweepSettings
from launchers.search.space import Space
from launchers.search.trials import Trial, TrialState

log = logging.getLogger("launchers")
PRUNED = (TrialState.pruned, TrialState.paused)


def close(folder: Path, trials: Sequence[Trial], space: Space, settings: SweepSettings) -> None:
    """Write `sweep.csv` and `sweep.json`, and print the table and what follows from it."""
    results = read_results(trials, settings)
    shares = None
    if settings.searches or len(trials) >= 10:
        whole = [
            (r.trial.params, r.value) for r in results if r.value is not None and r.trial.state is TrialState.finished
        ]
        shares = importance(whole, space, settings) if space.dimensions else None
    write_files(folder, results, space.keys, settings, shares)
    _show(results, space, settings)
    for sentence in troubles(results, settings):
        log.warning("%s", sentence)
    if shares:
        print(f"Importance: {', '.join(f'{key} {share:.0%}' for key, share in shares.items())}", flush=True)
    best = best_of(results)
    if best is not None:
        _show_gain(best, results, settings)
        print(f"Best: job {best.trial.number}\n  {command_of(best.trial, space, settings)}", flush=True)


def troubles(results: Sequence[Result], settings: SweepSettings) -> list[str]:
    """What a person should know of jobs that the table ranks last: those that failed, and those that measured something else."""
    found = []
    failed = [result for result in results if result.trial.state is TrialState.failed]
    if failed:
        which = f"All {len(failed)} jobs" if len(failed) == len(results) else f"{len(failed)} of {len(results)} jobs"
        causes = Counter((result.trial.note or "no reason is known").splitlines()[0] for result in failed)
        cause, count = causes.most_common(1)[0]
        cause = cause.rstrip(".")
        others = f" ({count} of them; the others for other reasons)" if len(causes) > 1 else ""
        found.append(
            f"{which} failed: {cause}{others}. Mend the cause and repeat the command: only what has no result runs again."
        )
    without = [r for r in results if r.trial.state is TrialState.finished and r.value is None]
    if without:
        metric = settings.metric or "value"
        logged = sorted({name for result in without for name in measured(Path(result.trial.folder))})
        numbers = ", ".join(str(result.trial.number) for result in without)
        found.append(
            f"No value of {metric} came from job(s) {numbers}, which ran to their end; "
            f"they measured {', '.join(logged) or 'nothing'}: name one that every job measures."
        )
    return found


def _show_gain(best: Result, results: Sequence[Result], settings: SweepSettings) -> None:
    first = next((result for result in results if result.trial.point == 0), None)
    if not settings.baseline or first is None:
        return
    whole = all(result.trial.state is TrialState.finished for result in (first, best))
    own = f"job {first.trial.number}, which has the values that the config has without a search"
    if not whole or first.value is None or best.value is None:
        print(f"No gain is known: not both of job {best.trial.number} and {own}, ran to their end.", flush=True)
        return
    gain = best.value - first.value
    print(f"The best job's {settings.metric or 'value'} is {best.value:.4g}: {gain:+.4g} against {own}.", flush=True)


def _show(results: Sequence[Result], space: Space, settings: SweepSettings) -> None:
    from launchers.cli.tables import Sheet, show

    names, figures = columns_of(results, space.keys, settings)
    metric = settings.metric or "value"
    rows = rows_of(results, space.keys, settings)
    for row in rows:
        row["$"], row["folder"] = row["cost_usd"], _short(row["folder"])
    optional = {"$": any(row["$"] for row in rows), "note": any(row["note"] for row in rows)}
    columns = ["job", *names, metric, *figures, "state", "minutes", "$", "folder", "note"]
    columns = [column for column in dict.fromkeys(columns) if optional.get(column, True)]
    title = f"{len(rows)} jobs by {metric} ({settings.direction}), best first"
    headers = {name: name for name in (*names, metric, *figures)}
    show(Sheet(title, columns, rows, right=frozenset({*figures, metric, "minutes", "$"}), headers=headers))
    if settings.seeds > 1:
        points = points_table(results, space.keys, settings)
        columns = [key for key in points[0] if key != "metric"] if points else []
        title = f"Points by the mean {metric} of {settings.seeds} seeds"
        show(
            Sheet(
                title, columns, points, right=frozenset({"mean", "deviation", "seeds"}), headers={n: n for n in names}
            )
        )


def _short(folder: str) -> str:
    path = Path(folder)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else folder


def command_of(trial: Trial, space: Space, settings: SweepSettings) -> str:
    """The command that runs one job of the sweep alone."""
    left_out = {"hydra.sweep.dir", "hydra.mode", *settings.only_in_sweeps}
    own = [o for o in space.overrides(trial.params) if o.partition("=")[0] not in left_out]
    seed = [f"{settings.seed_key}={trial.seed}"] if trial.seed is not None else []
    return shlex.join([*program(), *own, *seed])


def program() -> list[str]:
    """How this process was started, without its arguments."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return ["python", "-m", path.parent.name]
    return ["python", sys.argv[0]] if path.suffix == ".py" else [path.name]

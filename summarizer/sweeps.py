"""A sweep as a whole: what is refused before its first job, what follows its last one, and what a refused one leaves (nothing).

Imports Hydra and nothing heavier: Hydra builds the callback at every start.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from summarizer.errors import ConfigError, fail
from summarizer.run import BILL, FINISHED, REPORT, Run

log = logging.getLogger(__name__)
MULTIRUN = "hydra.mode=MULTIRUN"
"""On the command line, as an override: several jobs were asked for."""
RECORD = "multirun.yaml"
"""Hydra's sweepers write it before they compose the first job."""


@dataclass(frozen=True)
class Started:
    """The sweep of this process, which may be of one job."""

    config: DictConfig
    folder: Path
    existing: frozenset[Path]
    """What was there before: the folder, what is in it, the folders above."""


STARTED: list[Started] = []


class SweepCallback(Callback):
    """Notes the sweep that starts, and refuses one that cannot be meant."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(str(config.hydra.sweep.dir)).absolute()
        inside = folder.iterdir() if folder.is_dir() else ()
        existing = frozenset(path for path in (folder, *folder.parents, *inside) if path.exists())
        STARTED[:] = [Started(config, folder, existing)]
        try:
            refuse(config)
        except ConfigError as error:
            sys.exit(fail(str(error)))  # Hydra makes a warning of a callback's exceptions, but not of this one


def refuse(config: DictConfig) -> None:
    """What only the config of the whole sweep shows.

    Raises:
        ConfigError: several jobs that were not asked for, or a search that would choose the worst.
    """
    sweeper = config.hydra.sweeper
    searches = not str(sweeper._target_).endswith(".BasicSweeper")
    if MULTIRUN not in config.hydra.overrides.hydra:
        if sweeper.get("params"):
            keys = ", ".join(map(str, sweeper.params))
            raise ConfigError(
                f"hydra.sweeper.params names several values of {keys}, one job each: add -m to run them all."
            )
        if searches:
            raise ConfigError(
                f"hydra/sweeper={config.hydra.runtime.choices.get('hydra/sweeper')} runs many jobs: add -m to run them all."
            )
    direction = sweeper.get("direction")
    if direction is not None and str(getattr(direction, "name", direction)) != str(config.sweep.direction):
        raise ConfigError(
            f"hydra.sweeper.direction={getattr(direction, 'name', direction)} contradicts sweep.direction="
            f"{config.sweep.direction} (of sweep.metric={config.sweep.metric}): leave hydra.sweeper.direction out."
        )
    split = str(config.sweep.metric).partition("/")[0]
    if searches and config.task == "evaluate" and split not in config.evaluation.splits:
        raise ConfigError(
            f"task=evaluate does not measure sweep.metric={config.sweep.metric}: set evaluation.splits=[{split}]."
        )


def remove_unused_folders() -> None:
    """Remove the folders that Hydra made for jobs that never began: refused, planned only, or of a task that keeps nothing."""
    for started in STARTED:
        if not started.folder.is_dir():
            continue
        for child in set(started.folder.iterdir()) - started.existing:
            if child.is_dir():
                for made, _, _ in os.walk(child, topdown=False):
                    with suppress(OSError):
                        os.rmdir(made)  # fails where there is anything in it
        record = started.folder / RECORD
        if set(started.folder.iterdir()) - started.existing == {record}:  # no job has begun
            record.unlink()
            for path in (started.folder, *started.folder.parents):
                if path in started.existing:
                    break
                with suppress(OSError):
                    path.rmdir()


@dataclass(frozen=True)
class Trained:
    """A finished training job of the sweep."""

    run: Run
    overrides: tuple[str, ...]
    value: float


def trained_jobs(folder: Path, metric: str) -> list[Trained]:
    """The finished trainings below a sweep's folder that have measured `metric`, in the order of their numbers."""
    jobs = []
    for path in folder.glob("*/status.json"):
        run = Run(path.parent)
        status, value = run.status(), run.metrics().get(metric)
        if (
            (status.get("state"), status.get("task")) != (FINISHED, "train")
            or value is None
            or not math.isfinite(value)
        ):
            continue
        overrides = OmegaConf.load(run.overrides_file) if run.overrides_file.exists() else ()
        jobs.append(Trained(run, tuple(map(str, overrides)), float(value)))
    return sorted(jobs, key=lambda job: (len(job.run.folder.name), job.run.folder.name))


def after() -> list[list[str]]:
    """What follows a sweep that has ended well: the table of its jobs, and the command that evaluates the best of them, where
    none was evaluated."""
    started = STARTED[-1] if STARTED else None
    if started is None or started.config.task != "train":
        return []
    config = started.config
    add_bills(started.folder)
    metric, direction = str(config.sweep.metric), str(config.sweep.direction)
    jobs = trained_jobs(started.folder, metric)
    if len(jobs) < 2:
        return []
    best = (max if direction == "maximize" else min)(jobs, key=lambda job: job.value)
    show(jobs, best, metric, direction)
    write_page(started.folder, metric, direction)
    if config.evaluation.splits:
        return []
    test = {"files": config.data.test_file, "hub": config.data.test_split}.get(config.data.kind, "test")
    if not test:
        print(f"The data has no test split to evaluate the best job on: {best.run.folder}", flush=True)
        return []
    print(f"Evaluating the best job on the test split, on this machine: {best.run.folder}", flush=True)
    command = [
        "task=evaluate",
        f"run={best.run.folder}",
        "evaluation.splits=[test]",
        f"hydra.run.dir={started.folder / 'best'}",
    ]
    rented = config.provider.name != "local"
    return [[*command, *(["hardware=auto"] if rented else [])]]


def add_bills(folder: Path) -> None:
    """Write each job's page again where a bill has come since: a rented machine wrote the page before its bill was known."""
    for bill in sorted(folder.glob(f"*/{BILL}")):
        page = bill.with_name(REPORT)
        if page.is_file() and page.stat().st_mtime > bill.stat().st_mtime:
            continue
        try:
            from summarizer.report.build import write_run_report

            write_run_report(bill.parent)
        except Exception as error:
            log.warning("%s has no bill in it (%s: %s).", page, type(error).__name__, str(error)[:200])


def write_page(folder: Path, metric: str, direction: str) -> None:
    """`report.html` of the whole sweep. Whatever goes wrong here is a warning: each job has its own page."""
    try:
        from summarizer.report.build import compared, write_comparison

        comparison = compared([str(folder)], metric, direction == "maximize")
        print(f"Report: {write_comparison(comparison, folder / REPORT, f'Sweep {folder.name}')}", flush=True)
    except Exception as error:
        log.warning("The sweep's report.html could not be written (%s: %s).", type(error).__name__, str(error)[:200])


def show(jobs: list[Trained], best: Trained, metric: str, direction: str) -> None:
    """One row per job: its number, the overrides that not all share, and its value."""
    from summarizer.evaluation.report import print_table

    shared = set.intersection(*(set(job.overrides) for job in jobs))
    rows = [
        [job.run.folder.name, " ".join(o for o in job.overrides if o not in shared), f"{job.value:.4g}", "best" if job is best else ""]
        for job in jobs
    ]  # fmt: skip
    print_table(f"Jobs of this sweep by {metric} ({direction})", ("job", "settings", metric, ""), rows)

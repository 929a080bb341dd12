"""A sweep as a whole: what is refused before its first job, what follows its last one, and what a refused one leaves (nothing).

Imports Hydra and nothing heavier: Hydra builds the callback at every start.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from summarizer.errors import ConfigError, fail
from summarizer.run import BILL, FINISHED, REPORT, Run

log = logging.getLogger(__name__)
MULTIRUN = "hydra.mode=MULTIRUN"
"""On the command line, as an override: several jobs were asked for."""
RECORD = "multirun.yaml"
"""Hydra's sweepers write it before they compose the first job."""

HUB_TIMEOUT_S = 10.0

TABLE = "sweep.json"
"""What a sweep leaves: its jobs, best first."""


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
    own = config.hydra.runtime.choices.get("hydra/sweeper") == "search"
    searches = config.sweep.sampler != "grid" if own else not str(sweeper._target_).endswith(".BasicSweeper")
    if MULTIRUN not in config.hydra.overrides.hydra:
        fixed = {str(override).partition("=")[0] for override in config.hydra.overrides.task}
        named = [str(key) for key in (*config.sweep.params, *(sweeper.get("params") or {}))]
        if several := [key for key in named if key not in fixed]:
            keys = ", ".join(several)
            raise ConfigError(f"sweep.params names several values of {keys}, one job each: add -m to run them all.")
        one_point = bool(named) and not any(key.partition(".")[0] == "sweep" for key in fixed)
        if (searches and not one_point) or config.sweep.seeds > 1:
            what = (
                f"sweep.seeds={config.sweep.seeds}"
                if not searches
                else f"sweep={config.hydra.runtime.choices.get('sweep')}"
            )
            raise ConfigError(f"{what} runs many jobs: add -m to run them all.")
    direction = sweeper.get("direction")
    if direction is not None and str(getattr(direction, "name", direction)) != str(config.sweep.direction):
        raise ConfigError(
            f"hydra.sweeper.direction={getattr(direction, 'name', direction)} contradicts sweep.direction="
            f"{config.sweep.direction} (of sweep.metric={config.sweep.metric}): leave hydra.sweeper.direction out."
        )
    if own and config.sweep.pruner != "none" and config.task == "train" and config.trainer.validations < 2:
        raise ConfigError(
            f"sweep.pruner={config.sweep.pruner} compares jobs at their validations, while they train: set trainer.validations=2 or more, "
            "or sweep.pruner=none."
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
class Best:
    """The best job of a sweep, by the table that the sweep has left."""

    run: Run
    jobs: int
    """How many ran to their end."""


def best_job(folder: Path) -> Best | None:
    """From `sweep.json`, which lists the jobs best first; None where there are fewer than two."""
    try:
        record = json.loads((folder / TABLE).read_text())
        done = [row for row in record["jobs"] if row["state"] == FINISHED and row[record["metric"]] is not None]
    except (OSError, ValueError, KeyError):
        return None
    return Best(Run(Path(done[0]["folder"])), len(done)) if len(record["jobs"]) > 1 and done else None


def data_digest(config: DictConfig) -> str:
    """What a job's data is, as far as the config alone does not say it: the content of its files, or the hub's commit.

    Empty where nothing is known: no network, and no copy in the hub's cache.
    """
    if config.data.kind == "hub":
        return _hub_commit(str(config.data.hub_id), config.data.revision)
    if config.data.kind != "files":
        return ""
    digest = hashlib.sha256()
    for split in ("train", "validation", "test"):
        path = config.data[f"{split}_file"]
        if path and Path(path).expanduser().is_file():
            file = Path(path).expanduser()
            stat = file.stat()
            digest.update(_content(str(file), stat.st_size, stat.st_mtime_ns).encode())
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=64)
def _hub_commit(name: str, revision: str | None) -> str:
    """The commit at which a data set of the hub stands, asked once a command; that of the copy in the cache if no hub answers."""
    from huggingface_hub import HfApi, constants

    try:
        return str(HfApi().dataset_info(name, revision=revision, timeout=HUB_TIMEOUT_S).sha or "")[:16]
    except Exception as error:  # requests', httpx's and the hub's own: the job itself says what is wrong with its data
        log.debug("the hub does not say where %s stands (%s)", name, type(error).__name__)
    ref = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}" / "refs" / (revision or "main")
    try:
        return ref.read_text().strip()[:16]
    except OSError:
        return ""


@functools.lru_cache(maxsize=64)
def _content(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def after() -> list[list[str]]:
    """What follows a sweep that has ended well: its page, and the command that evaluates its best job, where none was
    evaluated."""
    started = STARTED[-1] if STARTED else None
    if started is None or started.config.task != "train":
        return []
    config = started.config
    add_bills(started.folder)
    found = best_job(started.folder)
    if found is None:
        return []
    write_page(started.folder, str(config.sweep.metric), str(config.sweep.direction))
    if config.evaluation.splits:
        return []
    test = {"files": config.data.test_file, "hub": config.data.test_split}.get(config.data.kind, "test")
    best = found.run.folder
    if not test:
        print(f"The data has no test split to evaluate the best job on: {best}", flush=True)
        return []
    evaluated = Run(started.folder / "best")
    if evaluated.status().get("state") == FINISHED and evaluated.load_config().run == str(best):
        return []
    print(f"Evaluating the best job on the test split, on this machine: {best}", flush=True)
    command = ["task=evaluate", f"run={best}", "evaluation.splits=[test]", f"hydra.run.dir={evaluated.folder}"]
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

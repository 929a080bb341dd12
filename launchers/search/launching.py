"""A sweep from its composed config to its closing table: composes jobs, checks them, and gives each launcher its own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from hydra.core.utils import JobReturn, JobStatus, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from launchers.app_functions import ask_app, own_packages
from launchers.console import guard_console
from launchers.dispatch import (
    ComposedJob,
    ComposesOnce,
    DispatchingLauncher,
    numbered,
    quote_group_option,
    refuse_shared_folders,
    run_preflight,
)
from launchers.errors import MendInput
from launchers.local import failed, finished
from launchers.search.board import Board
from launchers.search.closing import close
from launchers.search.fingerprint import Fingerprint, code_digest, config_digest
from launchers.search.jobs import SweepJobs
from launchers.search.points import ListedPoints, Points, StudyPoints
from launchers.search.results import recorded
from launchers.search.settings import SweepSettings
from launchers.search.settle import reconnect
from launchers.search.space import Interval, Space
from launchers.search.sweep import Prepared, Sweep
from launchers.search.trials import LedgerTrials, Trials, TrialState

log = logging.getLogger("launchers")


class SweepLaunch:
    """One start of a sweep."""

    def __init__(self, launcher: DispatchingLauncher, space: Space, settings: SweepSettings) -> None:
        assert launcher.config is not None
        assert launcher.hydra_context is not None
        assert launcher.task_function is not None
        self._launcher, self._master = launcher, launcher.config
        self._loader = cast(ComposesOnce, launcher.hydra_context.config_loader)
        self._app = own_packages(launcher.task_function)
        self._space, self._settings = space, settings
        self._folder = Path(str(self._master.hydra.sweep.dir)).absolute()
        self._code = code_digest(self._app, Path.cwd())
        self._prepared: dict[tuple[str, ...], Prepared[ComposedJob]] = {}

    def run(self) -> list[JobReturn]:
        """Run what is missing; returns a result for each job that has one, in the order of their numbers."""
        setup_globals()
        configure_log(self._master.hydra.hydra_logging, self._master.hydra.verbose)
        points = self._points()
        with one_at_a_time(self._folder), self._trials() as trials:
            sweep = Sweep(
                str(self._folder), self._settings, points, trials, self._prepare, self._place, first_seed=self._first_seed()
            )  # fmt: skip
            targets = self._checked(sweep)
            write_record(self._folder, self._master)  # only now: a refused sweep leaves nothing behind
            if sweep.restored:
                log.info("%d of %d jobs have a result from before: not run again.", sweep.restored, len(sweep.known))
            returns: dict[int, JobReturn] = {}
            board = Board(sweep, self._space.keys)
            try:
                with self._console(board):
                    self._run_all(sweep, targets, returns, board)
            finally:
                close(self._folder, sweep.close(), self._space, self._settings)
            return [returns.get(trial.number) or self._return_of(sweep, trial.number) for trial in sweep.all()]

    def _run_all(
        self, sweep: Sweep[ComposedJob], targets: dict[str, Launcher], returns: dict[int, JobReturn], board: Board
    ) -> None:
        for target, launcher in targets.items():
            check = self._check(launcher) if self._settings.searches else None
            jobs = SweepJobs(sweep, target, check, returns, board.say)
            if isinstance(launcher, DispatchingLauncher):
                launcher.run_sweep(jobs)
            else:
                run_with_foreign_launcher(launcher, jobs)

    @contextlib.contextmanager
    def _console(self, board: Board) -> Iterator[None]:
        """Our log goes through the board while it is shown, which keeps its lines above the table."""
        hydra = self._master.hydra
        try:
            with board.shown():
                configure_log(hydra.hydra_logging, hydra.verbose)
                guard_console()
                yield
        finally:
            configure_log(hydra.hydra_logging, hydra.verbose)
            guard_console()

    def _points(self) -> Points:
        if not self._settings.searches:
            return ListedPoints(list(self._space.grid()))
        study = StudyPoints(self._space, self._settings)
        if self._settings.baseline:
            # The swept keys at what the other settings of the command make them.
            config = self._loader.load_sweep_config(self._master, list(self._space.fixed))
            values = {key.lstrip("+"): OmegaConf.select(config, key.lstrip("+")) for key in self._space.keys}
            if not study.begin_with(values):
                named = ", ".join(f"{key}={value}" for key, value in values.items())
                raise MendInput(
                    f"The search can't begin with the config's own values, because its space does not hold them all ({named}): "
                    "widen the space, or set hydra.sweeper.baseline=false."
                )
        return study

    # --- composition

    def _prepare(self, params: dict[str, str], seed: int | None) -> Prepared[ComposedJob]:
        if set(params) != set(self._space.keys):
            raise MendInput(
                f"{self._folder} holds another sweep, over {', '.join(params)}: name another folder with hydra.sweep.dir=."
            )
        own = [*self._space.overrides(params), *([f"{self._settings.seed_key}={seed}"] if seed is not None else [])]
        key = tuple(own)
        if key not in self._prepared:
            overrides = [quote_group_option(override, self._loader, self._master) for override in own]
            config = self._loader.take(self._master, overrides)
            job = ComposedJob(0, tuple(overrides), config, self._app)
            self._prepared[key] = Prepared(self._fingerprint(job), job, key)
        return self._prepared[key]

    def _fingerprint(self, job: ComposedJob) -> Fingerprint:
        plain = OmegaConf.to_container(job.config, resolve=False)
        assert isinstance(plain, dict)
        ask = self._settings.data_digest
        data = str(ask_app("hydra.sweeper.data_digest", ask, job)) if ask else ""
        return Fingerprint(
            config_digest({str(k): v for k, v in plain.items()}, self._settings.ignore), self._code, data
        )

    def _place(self, number: int, prepared: Prepared[ComposedJob]) -> tuple[Prepared[ComposedJob], str]:
        job = self._numbered(number, prepared)
        return replace(prepared, job=job), str(job.folder)

    def _numbered(self, number: int, prepared: Prepared[ComposedJob]) -> ComposedJob:
        return numbered(number, prepared.job.overrides, prepared.job.config, self._app)

    def _first_seed(self) -> int:
        if self._settings.seeds == 1:
            return 0
        base = OmegaConf.select(self._master, self._settings.seed_key)
        if not isinstance(base, int):
            raise MendInput(
                f"hydra.sweeper.seeds needs a whole number at {self._settings.seed_key}, which is {base!r}: set hydra.sweeper.seed_key."
            )
        return base

    # --- what can be refused before anything starts

    def _checked(self, sweep: Sweep[ComposedJob]) -> dict[str, Launcher]:
        """The launcher of each job that can be known now, after all of those jobs were found to be possible."""
        jobs = [self._numbered(trial.number, prepared) for trial, prepared in sweep.waiting()]
        if self._settings.searches:
            for probe in self._space.probes():
                prepared = self._prepare(probe, None)
                refuse_intervals_of_texts(self._space, prepared.job.config)
                jobs.append(self._numbered(len(sweep.known), prepared))
        for job in jobs:
            run_preflight(job)
        if not self._settings.searches:
            refuse_shared_folders(jobs)
        groups: dict[str, list[ComposedJob]] = {}
        for job in jobs:
            groups.setdefault(job.target, []).append(job)
        if self._settings.searches and len(groups) > 1:
            raise MendInput("A search runs on one provider: take provider out of what is searched, or use a grid.")
        launchers = {target: self._launcher.launcher_of(group[0]) for target, group in groups.items()}
        for target, group in groups.items():
            launcher = launchers[target]
            if isinstance(launcher, DispatchingLauncher):
                launcher.check_jobs(group)
        return launchers

    def _check(self, launcher: Launcher) -> Callable[[ComposedJob], None]:
        def check(job: ComposedJob) -> None:
            run_preflight(job)
            if isinstance(launcher, DispatchingLauncher):
                launcher.check_jobs([job])

        return check

    # --- around it

    @contextlib.contextmanager
    def _trials(self) -> Iterator[Trials]:
        from launchers.ledger import Ledger

        ledger = Ledger.open()
        try:
            kept = LedgerTrials(ledger)
            if not kept.of(str(self._folder)):
                for trial in recorded(self._folder):  # a folder that came from another computer
                    kept.put(trial)
            reconnect(kept, str(self._folder), ledger)
            yield kept
        finally:
            ledger.close()

    def _return_of(self, sweep: Sweep[ComposedJob], number: int) -> JobReturn:
        """What a sweeper gets for a job that did not run in this start."""
        trial = sweep.known[number]
        job = self._numbered(number, self._prepare(trial.params, trial.seed))
        if trial.state is TrialState.failed:
            return failed(job, RuntimeError(trial.note or "failed"))
        return finished(job, JobStatus.COMPLETED, trial.value)


def refuse_intervals_of_texts(space: Space, config: DictConfig) -> None:
    """A number that is drawn for a key of text would be taken as a text, and compared as a value that means something.

    Raises:
        MendInput: an interval of a key that holds no number.
    """
    for dimension in space.dimensions:
        key = dimension.key.lstrip("+")
        value = OmegaConf.select(config, key)
        if isinstance(dimension, Interval) and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise MendInput(f"{key} holds no number and so has no interval: list its values, such as {key}=a,b.")


def write_record(folder: Path, config: DictConfig) -> None:
    """`multirun.yaml`, the composed config of the whole sweep, as Hydra's own sweeper writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold the sweep's folder for this process; freed by the system when it dies.

    Raises:
        MendInput: another process runs a sweep in it.
    """
    import fcntl
    import hashlib

    from launchers.ledger import launchers_home

    locks = launchers_home() / "locks"
    locks.mkdir(exist_ok=True, mode=0o700)
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:24]
    with (locks / f"sweep-{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MendInput(
                f"Another process runs a sweep in {folder}: wait for it, stop it, or name another folder with hydra.sweep.dir=."
            ) from None
        yield


def run_with_foreign_launcher(launcher: Launcher, jobs: SweepJobs) -> None:
    """Launchers of others take one job at a time here, and keep no machine that would wait."""
    while (job := jobs.next()) is not None:
        [result] = launcher.launch([list(job.overrides)], job.number)
        failure = result.status is JobStatus.FAILED
        state = TrialState.failed if failure else TrialState.finished
        jobs.ended(
            job, state, None if failure else result.return_value, note=str(result._return_value) if failure else None
        )
        jobs.returns[job.number] = result

"""What all our Hydra launchers share: compose every job first, then send each to the launcher it names itself.

Hydra builds one launcher for a sweep, from the config before any sweep value is applied. A sweep over
the provider would so run every job with the default one. Here the launcher that Hydra built composes all jobs, groups
them by their own `hydra.launcher._target_`, lets each launcher of ours refuse its group before anything starts, and
then runs the groups.
"""

from __future__ import annotations

import functools
import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from launchers.app_functions import ask_app, own_packages
from launchers.capture import current, keep_returns
from launchers.console import guard_console, quiet_interrupt
from launchers.errors import LaunchError, MendInput
from launchers.formats import duration
from launchers.search.trials import TrialState
from launchers.secrecy import scrub_error

if TYPE_CHECKING:
    from launchers.planning import PlannedJob
    from launchers.search.jobs import SweepJobs

log = logging.getLogger(__name__)


class LaunchRefused(CompactHydraException):
    """A `LaunchError` in the class that Hydra shows without a traceback."""


class JobNotFinished(CompactHydraException):
    """What the sweeper gets for a job that failed elsewhere: its own traceback is in its log, and ours would say nothing."""


@dataclass(frozen=True)
class ComposedJob:
    """One job of a sweep: its number, its overrides as they will be passed on, and its own full config."""

    number: int
    overrides: tuple[str, ...]
    config: DictConfig
    app: frozenset[str]
    """Top-level names of the app's own packages."""

    @functools.cached_property
    def text(self) -> str:
        """The config as YAML, for people to read."""
        return OmegaConf.to_yaml(self.config, resolve=False)

    @property
    def target(self) -> str:
        """The launcher class this job asks for."""
        return str(self.config.hydra.launcher._target_)

    @property
    def folder(self) -> Path:
        """The job's output folder on this machine, absolute."""
        return Path(str(self.config.hydra.sweep.dir), str(self.config.hydra.sweep.subdir)).absolute()


def quote_group_option(override: str, loader: ComposesOnce, master: DictConfig) -> str:
    """`hardware=4090` -> `hardware='4090'` where `hardware` is a config group: Hydra refuses a number as an option.

    Sweepers hand over values without the quotes that the user typed, so each job's overrides need this again.
    """
    key, equals, value = override.partition("=")
    if not equals or not value or not key.lstrip("+").replace("/", "").replace("@", "").replace(":", "").isidentifier():
        return override
    parsed = OverridesParser.create().parse_override(override)
    number = parsed.value() if not parsed.is_sweep_override() else None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return override
    group = parsed.key_or_group
    if group not in master.hydra.runtime.choices:
        is_value = isinstance(OmegaConf.select(master, group), (bool, int, float))
        if is_value or not loader.options(group):
            return override
    return f"{key}='{value}'"


class ComposesOnce:
    """Hydra's config loader, which keeps what a sweeper composed to see that its jobs can be composed.

    Hydra's own sweeper does so right before it hands the same overrides to the launcher; composing is most of the time that
    Hydra takes to start, and of that of a large sweep.
    """

    def __init__(self, loader: ConfigLoader) -> None:
        self._loader = loader
        self._kept: dict[tuple[str, ...], tuple[DictConfig, DictConfig]] = {}
        self._options: dict[str, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        config = self._loader.load_sweep_config(master_config, sweep_overrides)
        self._kept[tuple(sweep_overrides)] = (master_config, config)
        return config

    def options(self, group: str) -> list[str]:
        """The options of a config group, none where it is no group."""
        if group not in self._options:
            self._options[group] = self._loader.get_group_options(group)
        return self._options[group]

    def take(self, master: DictConfig, overrides: list[str]) -> DictConfig:
        """The config of a job, for the caller to change: one that was kept is handed out once."""
        kept_for, config = self._kept.pop(tuple(overrides), (None, None))
        if config is not None and kept_for is master:
            return config
        return self._loader.load_sweep_config(master, overrides)


def numbered(number: int, overrides: Sequence[str], config: DictConfig, app: frozenset[str]) -> ComposedJob:
    """A composed config as the job of a number."""
    with read_write(config.hydra), open_dict(config):  # one that is resumed has run before, which made it read-only
        config.hydra.job.id = str(number)
        config.hydra.job.num = number
    return ComposedJob(number, tuple(overrides), config, app)


def compose_jobs(
    loader: ComposesOnce,
    master: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first_number: int,
    app: frozenset[str],
) -> list[ComposedJob]:
    """Compose every job of a batch on top of the sweep's master config."""
    jobs = []
    for number, raw in enumerate(job_overrides, start=first_number):
        overrides = [quote_group_option(override, loader, master) for override in raw]
        jobs.append(numbered(number, overrides, loader.take(master, overrides), app))
    return jobs


def run_preflight(job: ComposedJob) -> None:
    """Let the app refuse a job while nothing has been started or paid for.

    `hydra.launcher.preflight` names a function of the app, "package.module.function", that takes the job's composed
    config and raises what is to stop the whole sweep.
    """
    path = job.config.hydra.launcher.get("preflight")
    if path:
        ask_app("hydra.launcher.preflight", str(path), job)


def refuse_shared_folders(jobs: Sequence[ComposedJob]) -> None:
    """Each job has a folder of its own, or one would go on from another's results.

    Raises:
        MendInput: two jobs name the same one.
    """
    owners: dict[Path, int] = {}
    for job in jobs:
        first = owners.setdefault(job.folder, job.number)
        if first != job.number:
            raise MendInput(
                f"Jobs {first} and {job.number} would both write to {job.folder}: let hydra.sweep.subdir differ, such as "
                "hydra.sweep.subdir='${hydra.job.num}'."
            )


def first_words(job: ComposedJob) -> str:
    """What a job is, and where its results go: the first line that a person sees."""
    own = " ".join(filter_overrides(job.overrides)) or "the default settings"
    here, folder = Path.cwd(), job.folder
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    return f"job {job.number}: {own}{_expected(job)}; results go to {shown}"


def _expected(job: ComposedJob) -> str:
    """How long a job of this computer will take, where its app knows; of one that is rented, the plan says more."""
    path = job.config.hydra.launcher.get("forecast")
    hours = ask_app("hydra.launcher.forecast", str(path), job) if path else None
    return f", about {duration(float(hours) * 3600)}" if hours is not None else ""


class DispatchingLauncher(Launcher):
    """Base of our launchers: a subclass says what it refuses (`check_jobs`) and how a group runs (`run_jobs`)."""

    def __init__(self, **settings: Any) -> None:
        """`settings` are those of the sweep's first config and not used: each job's own config holds its own."""
        self.config: DictConfig | None = None
        self.task_function: TaskFunction | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if not isinstance(hydra_context.config_loader, ComposesOnce):
            # The sweeper asks the same context, later.
            hydra_context.config_loader = cast(ConfigLoader, ComposesOnce(hydra_context.config_loader))
        self.config = config
        self.hydra_context = hydra_context
        self.task_function = task_function

    def check_jobs(self, jobs: Sequence[ComposedJob]) -> None:
        """Raise a `LaunchError` when these jobs can't run here. Called for every group before any job starts."""

    @abstractmethod
    def run_jobs(self, jobs: Sequence[ComposedJob]) -> list[JobReturn]:
        """Run the jobs and return one result each, in order. A failed job is a result, never an exception."""

    def run_sweep(self, jobs: SweepJobs) -> None:
        """Run jobs as they are asked for, and put what each returned into `jobs.returns`."""
        drained = list(iter(jobs.next, None))
        for job, result in zip(drained, self.run_jobs(drained), strict=True):
            failure = result.status is JobStatus.FAILED
            note = str(result._return_value) if failure else None
            value = None if failure else result.return_value
            jobs.ended(job, TrialState.failed if failure else TrialState.finished, value, note=note)
            jobs.returns[job.number] = result

    @quiet_interrupt()
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None, "setup() comes first"
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        guard_console()
        try:
            return self._launch(job_overrides, initial_job_idx)
        except LaunchError as error:
            raise LaunchRefused(str(error)) from error
        except Exception as error:  # Hydra shows it, and it may quote a key
            scrub_error(error)
            raise

    def _launch(self, job_overrides: Sequence[Sequence[str]], first_number: int) -> list[JobReturn]:
        assert self.config is not None
        assert self.hydra_context is not None
        loader = cast(ComposesOnce, self.hydra_context.config_loader)
        assert self.task_function is not None
        app = own_packages(self.task_function)
        jobs = compose_jobs(loader, self.config, job_overrides, first_number, app)
        for job in jobs:
            run_preflight(job)
        refuse_shared_folders(jobs)
        groups: dict[str, list[ComposedJob]] = {}
        for job in jobs:
            groups.setdefault(job.target, []).append(job)
        launchers = {target: self.launcher_of(group[0]) for target, group in groups.items()}
        for target, group in groups.items():
            launcher = launchers[target]
            if isinstance(launcher, DispatchingLauncher):
                launcher.check_jobs(group)
        capture = current()
        if capture is not None and capture.planning:
            capture.planned += [_planned(launchers[job.target], job) for job in jobs]
            return []
        # The folder appears only now: a refused sweep leaves nothing behind.
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        returns: dict[int, JobReturn] = {}
        for target, group in groups.items():
            for job in group:
                log.info("%s", first_words(job))
            launcher = launchers[target]
            results = (
                launcher.run_jobs(group)
                if isinstance(launcher, DispatchingLauncher)
                else _run_with_foreign_launcher(launcher, group)
            )
            assert len(results) == len(group), f"{target} returned {len(results)} results for {len(group)} jobs"
            returns.update({job.number: result for job, result in zip(group, results, strict=True)})
        ordered = [returns[job.number] for job in jobs]
        keep_returns(ordered)
        return ordered

    def planned(self, job: ComposedJob) -> PlannedJob:
        """What a job that was checked would be rented for; one that runs here costs nothing."""
        return _runs_here(job)

    def launcher_of(self, job: ComposedJob) -> Launcher:
        """The launcher that a job's own config names; this one if that is its class."""
        assert self.hydra_context is not None
        assert self.task_function is not None
        own = f"{type(self).__module__}.{type(self).__qualname__}"
        if job.target == own:
            return self
        # Private, but the only way to a plugin instance without Hydra's whole start; hydra-core is pinned below 1.4.
        launcher = cast(Launcher, Plugins.instance()._instantiate(job.config.hydra.launcher))
        # The master config with this job's launcher: what Hydra itself would have handed to it.
        launcher.setup(hydra_context=self.hydra_context, task_function=self.task_function, config=self._master_for(job))
        return launcher

    def _master_for(self, job: ComposedJob) -> DictConfig:
        assert self.config is not None
        master = self.config.copy()
        with open_dict(master):
            master.hydra.launcher = job.config.hydra.launcher
        return master


def _planned(launcher: Launcher, job: ComposedJob) -> PlannedJob:
    return launcher.planned(job) if isinstance(launcher, DispatchingLauncher) else _runs_here(job)


def _runs_here(job: ComposedJob) -> PlannedJob:
    from launchers.planning import PlannedJob

    return PlannedJob(job.number, job.overrides, str(job.config.hydra.runtime.choices.get("provider", "local")))


def _run_with_foreign_launcher(launcher: Launcher, jobs: Sequence[ComposedJob]) -> list[JobReturn]:
    """Launchers of others number their jobs from a first index: hand over runs of consecutive numbers."""
    returns: list[JobReturn] = []
    start = 0
    for index in range(1, len(jobs) + 1):
        if index == len(jobs) or jobs[index].number != jobs[index - 1].number + 1:
            run = jobs[start:index]
            returns.extend(launcher.launch([list(job.overrides) for job in run], run[0].number))
            start = index
    return returns

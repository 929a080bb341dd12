"""The Python API: plan and launch the jobs of a Hydra app from a program or a notebook.

Overrides are composed by Hydra's compose API, and go through the same sweepers, launchers and checks as on the command line.
"""

from __future__ import annotations

import contextlib
import inspect
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchers.capture import Capture, captured
from launchers.errors import LaunchError, MendInput
from launchers.job import JobState
from launchers.planning import PlannedJob
from launchers.secrecy import scrub

_OURS = {"launcher": "local (or a provider)", "sweeper": "basic or search"}

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from hydra.core.utils import JobReturn


@dataclass(frozen=True)
class App:
    """A Hydra app.

    Attributes:
        task: its function, decorated with `hydra.main` or not.
        config_dir: folder of its configs.
        config_name: its primary config.
        module: what `python -m` starts; None is the task's own module.
        prepare: called before a config is composed, such as to register a schema.
    """

    task: Callable[..., Any]
    config_dir: Path | str
    config_name: str = "config"
    module: str | None = None
    prepare: Callable[[], object] | None = None

    @staticmethod
    def of(module: str) -> App:
        """The app that `python -m MODULE` starts: `main` of its `__main__`, and the folder `conf` beside it.

        Raises:
            MendInput: that is not where they are.
        """
        import importlib

        try:
            main = importlib.import_module(f"{module}.__main__")
        except ImportError as error:
            raise MendInput(f"Unknown app: {module} ({error}). Name its module, or pass a launchers.App.") from None
        folder = Path(str(main.__file__)).parent / "conf"
        task = getattr(main, "main", None)
        if not folder.is_dir() or task is None or not hasattr(task, "__wrapped__"):
            raise MendInput(
                f"{module} has no folder conf, or no function main that is decorated with hydra.main: pass a launchers.App."
            )
        return App(task, folder, module=module)

    @property
    def entry_point(self) -> str:
        return self.module or str(self.task.__module__).removesuffix(".__main__")


@dataclass(frozen=True)
class JobResult:
    """What became of a job.

    Attributes:
        number: of the job in its sweep.
        overrides: those of this job.
        state: how it ended; `running` where it was detached.
        value: what the job returned.
        error: why there is no value.
        folder: its results.
        cost: $; 0 of a job that ran here.
        id: in `launchers ps`; None of a job that ran here.
    """

    number: int
    overrides: tuple[str, ...]
    state: JobState
    value: Any
    error: str | None
    folder: Path
    cost: float = 0.0
    id: str | None = None

    @property
    def finished(self) -> bool:
        return self.state is JobState.finished


def plan(app: App | str, overrides: Sequence[str] = ()) -> tuple[PlannedJob, ...]:
    """What the jobs of a command line with these overrides would be rented for. Starts nothing and rents nothing.

    Without an account the plan is made from published prices, where there are any, and `note` says so.

    Raises:
        MendInput: something in the overrides, the config or the keys is wrong.
        LaunchError: the provider does not answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Sweepers write down their config before they launch.
        return tuple(_run(app, [*overrides, f"hydra.sweep.dir={folder}"], planning=True).planned)


def launch(app: App | str, overrides: Sequence[str] = ()) -> tuple[JobResult, ...]:
    """Run what a command line with these overrides runs, here or on rented machines, and wait for it.

    A job that failed is a result like any other: see `JobResult.state` and `.error`.

    Raises:
        MendInput: something in the overrides, the config or the keys is wrong; nothing was rented.
        StillBilled: a machine may still cost money; the text names it, and the command that stops it.
        LaunchError: the launch could not be carried out.
    """
    return tuple(sorted(map(_result, _run(app, overrides, planning=False).returns), key=lambda result: result.number))


def _run(app: App | str, overrides: Sequence[str], planning: bool) -> Capture:
    app = App.of(app) if isinstance(app, str) else app
    with captured(Capture(app.entry_point, planning)) as capture, _errors(capture), _hydra(app) as hydra:
        if planning:
            _check_can_plan(hydra, app, overrides)
        batches = hydra.multirun(
            app.config_name, inspect.unwrap(app.task), list(overrides), with_log_configuration=not planning
        )
        if not capture.returns:  # launched by Hydra's own launcher
            capture.returns += [done for batch in batches or [] for done in batch]
    return capture


def _check_can_plan(hydra: Hydra, app: App, overrides: Sequence[str]) -> None:
    """
    Raises:
        MendInput: the launcher is not one of ours, and would run the jobs; or the sweeper wants results before it goes on.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.types import RunMode
    from hydra.utils import get_class

    from launchers.dispatch import DispatchingLauncher
    from launchers.search.sweeper import Searching

    config = hydra.compose_config(app.config_name, list(overrides), RunMode.MULTIRUN).hydra
    for group, known in (("launcher", (DispatchingLauncher,)), ("sweeper", (BasicSweeper, Searching))):
        name = str(config[group]._target_)
        if not issubclass(get_class(name), known):
            raise MendInput(
                f"hydra/{group} is {name}, which can't plan: choose hydra/{group}={_OURS[group]} to see a plan."
            )


@contextlib.contextmanager
def _errors(capture: Capture) -> Iterator[None]:
    """Errors of the launch in its own classes. That of a job is in its result: sweepers raise it once more at their end."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from launchers.dispatch import LaunchRefused

    try:
        yield
    except LaunchRefused as error:
        raise (error.__cause__ if isinstance(error.__cause__, LaunchError) else LaunchError(str(error))) from None
    except Exception as error:
        if any(_error_of(done) is error for done in capture.returns):
            return
        if isinstance(error, HydraException | OmegaConfBaseException):
            raise MendInput(str(error)) from error
        raise


@contextlib.contextmanager
def _hydra(app: App) -> Iterator[Hydra]:
    """Hydra with the app's config for the time of the block; what a notebook had started before is put back."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.version import VersionBase

    base, running = VersionBase.instance(), GlobalHydra.instance()
    before, hydra_before = base.version_base, running.hydra
    if app.prepare is not None:
        app.prepare()
    running.clear()
    try:
        name = app.entry_point.rpartition(".")[2]
        with initialize_config_dir(str(Path(app.config_dir).absolute()), job_name=name, version_base=None):
            assert running.hydra is not None
            yield running.hydra
    finally:
        base.version_base, running.hydra = before, hydra_before


def _result(done: JobReturn) -> JobResult:
    from launchers.ledger import Ledger

    assert done.hydra_cfg is not None
    settings, error = done.hydra_cfg.hydra, _error_of(done)
    folder = Path(str(settings.sweep.dir), str(settings.sweep.subdir)).absolute()
    number = int(settings.job.num)
    overrides = tuple(done.overrides or ())
    records = [record for record in Ledger.open().jobs() if record.spec.home == folder]
    if not records or "rental" not in settings.launcher:
        state = JobState.failed if error else JobState.finished
        return JobResult(number, overrides, state, None if error else done._return_value, _text(error), folder)
    record = records[-1]
    return JobResult(
        number, overrides, record.state, record.value, record.note, folder, record.cost, record.spec.id
    )  # fmt: skip


def _error_of(done: JobReturn) -> BaseException | None:
    from hydra.core.utils import JobStatus

    value = done._return_value
    return value if done.status is JobStatus.FAILED and isinstance(value, BaseException) else None


def _text(error: BaseException | None) -> str | None:
    return None if error is None else scrub(f"{type(error).__name__}: {error}")

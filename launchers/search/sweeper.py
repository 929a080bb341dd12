"""The substance of `hydra/sweeper=search`: from what the command says to a sweep that the launcher runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from launchers.capture import is_planning, keep_returns
from launchers.console import quiet_interrupt
from launchers.dispatch import DispatchingLauncher, LaunchRefused
from launchers.errors import LaunchError, MendInput
from launchers.search.settings import SweepSettings, checked
from launchers.search.space import Space, read_space

log = logging.getLogger("launchers")


class Searching(Sweeper):
    """Grids, lists and searches alike; the launcher asks for each job when it has a machine for it."""

    def __init__(self, **settings: Any) -> None:
        """`settings` are read from the composed config, whose interpolations are resolved there."""
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None
        self.hydra_context: HydraContext | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    @quiet_interrupt()
    def sweep(self, arguments: list[str]) -> Any:
        assert self.config is not None
        assert self.hydra_context is not None
        try:
            settings = checked(_plain(self.config.hydra.sweeper))
            space = read_space(all_params(self.config, settings), arguments, self.hydra_context.config_loader)
            refuse_seed_twice(space, settings)
            results = self._sweep(space, settings, self.hydra_context.config_loader)
        except LaunchError as error:
            raise LaunchRefused(str(error)) from error
        for result in results:
            # its `return_value` would raise the same, below a line of Hydra's own
            if result.status is JobStatus.FAILED:
                raise result._return_value
        return [results]

    def _sweep(self, space: Space, settings: SweepSettings, loader: ConfigLoader) -> list[Any]:
        from launchers.search.launching import SweepLaunch, write_record  # not at the start of every app

        assert self.config is not None
        folder = Path(str(self.config.hydra.sweep.dir)).absolute()
        if is_planning():  # of a search, one of its jobs
            points = list(space.grid()) if not settings.searches else list(space.probes())[:1]
            assert self.launcher is not None
            return list(self.launcher.launch([list(space.overrides(point)) for point in points], 0))
        # The command line may give each key that the config searches one value: that is one job.
        all_given = not space.dimensions and bool(all_params(self.config, settings))
        if not settings.searches or all_given:
            points = list(space.grid())
            alone = len(points) == 1 and settings.seeds == 1
            if alone or not isinstance(self.launcher, DispatchingLauncher):
                write_record(folder, self.config)
                assert self.launcher is not None
                return list(self.launcher.launch([list(space.overrides(point)) for point in points], 0))
        if not isinstance(self.launcher, DispatchingLauncher):
            raise MendInput(
                "A search needs a launcher of this package: leave hydra/launcher out, or set provider=local."
            )
        results = SweepLaunch(self.launcher, space, settings).run()
        keep_returns(results)
        return results


def all_params(config: DictConfig, settings: SweepSettings) -> dict[str, str]:
    """Key -> values, of the sweeper's own settings and of where the app keeps them."""
    elsewhere = OmegaConf.select(config, settings.params_from) if settings.params_from else None
    return {str(key): str(value) for key, value in [*(elsewhere or {}).items(), *(settings.params or {}).items()]}


def refuse_seed_twice(space: Space, settings: SweepSettings) -> None:
    """One says which seeds there are.

    Raises:
        MendInput: both a list of seeds and their number are given.
    """
    if settings.seeds > 1 and settings.seed_key in {key.lstrip("+") for key in space.keys}:
        raise MendInput(
            f"Both {settings.seed_key} and hydra.sweeper.seeds={settings.seeds} say which seeds to run: leave one of them out."
        )


def _plain(node: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(node, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}

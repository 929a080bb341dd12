"""`hydra/launcher=local`: the jobs run here, one after another."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from launchers.local import LocalJobs


@dataclass
class LocalLauncherConfig:
    _target_: str = "hydra_plugins.launchers_plugin.local.LocalLauncher"
    preflight: str | None = None
    """A function of the app, "package.module.function", that checks each job's composed config before anything starts."""
    forecast: str | None = None
    """`module:function`: config -> expected hours, which stand in the first line of a job; None where nothing is known."""


class LocalLauncher(LocalJobs):
    """Runs jobs in this process."""


ConfigStore.instance().store(group="hydra/launcher", name="local", node=LocalLauncherConfig, provider="launchers")

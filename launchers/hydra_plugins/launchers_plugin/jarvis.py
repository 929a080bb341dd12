"""`hydra/launcher=jarvis`: the jobs run on machines rented at JarvisLabs. Its settings stand under `provider`."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from launchers.launcher import RemoteLauncher
from launchers.settings import JarvisSettings, Timing


@dataclass
class JarvisLauncherConfig:
    _target_: str = "hydra_plugins.launchers_plugin.jarvis.JarvisLauncher"
    rental: Any = "${provider}"
    timing: Timing = field(default_factory=Timing)
    preflight: str | None = None
    """A function of the app, "package.module.function", that checks each job's composed config before anything starts."""


class JarvisLauncher(RemoteLauncher):
    """Rents at JarvisLabs, runs the jobs there, brings the results home, and stops paying."""

    provider = "jarvis"
    schema = JarvisSettings


store = ConfigStore.instance().store
store(group="hydra/launcher", name="jarvis", node=JarvisLauncherConfig, provider="launchers")
# An app's provider file names this in its defaults list, as `/launchers/jarvis@provider`: a misspelt knob then fails.
store(group="launchers", name="jarvis", node=JarvisSettings, provider="launchers")

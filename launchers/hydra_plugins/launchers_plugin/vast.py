"""`hydra/launcher=vast`: the jobs run on machines rented at Vast.ai. Its settings stand under `provider` of the app's config."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from launchers.launcher import RemoteLauncher
from launchers.settings import Timing, VastSettings


@dataclass
class VastLauncherConfig:
    _target_: str = "hydra_plugins.launchers_plugin.vast.VastLauncher"
    rental: Any = "${provider}"
    timing: Timing = field(default_factory=Timing)
    preflight: str | None = None
    """A function of the app, "package.module.function", that checks each job's composed config before anything starts."""


class VastLauncher(RemoteLauncher):
    """Rents at Vast.ai, runs the jobs there, brings the results home, and stops paying."""

    provider = "vast"
    schema = VastSettings


store = ConfigStore.instance().store
store(group="hydra/launcher", name="vast", node=VastLauncherConfig, provider="launchers")
# An app's provider file names this in its defaults list, as `/launchers/vast@provider`: a misspelt knob then fails.
store(group="launchers", name="vast", node=VastSettings, provider="launchers")

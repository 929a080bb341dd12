"""`hydra/launcher=NAME` and the config group `launchers` for every provider that is installed, from its descriptor."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from launchers.launcher import RemoteLauncher
from launchers.registry import Descriptor, descriptors
from launchers.settings import Timing


@dataclass
class RemoteLauncherConfig:
    _target_: str
    _recursive_: bool = False
    """Hydra hands on the settings as they are: it would stop at one that is missing, where we say which and what to do."""
    rental: Any = "${provider}"
    timing: Timing = field(default_factory=Timing)
    preflight: str | None = None
    """A function of the app, "package.module.function", that checks each job's composed config before anything starts."""


def _register(descriptor: Descriptor) -> type[RemoteLauncher]:
    """A class for each provider: jobs of a sweep are grouped by the class that their own config names."""
    name = f"{descriptor.name.title().replace('_', '')}Launcher"
    launcher = type(name, (RemoteLauncher,), {"__module__": __name__, "descriptor": descriptor})
    store = ConfigStore.instance().store
    node = RemoteLauncherConfig(f"{__name__}.{name}")
    store(group="hydra/launcher", name=descriptor.name, node=node, provider="launchers")
    # An app's provider file names this in its defaults list, as `/launchers/NAME@provider`: a misspelled key then fails.
    store(group="launchers", name=descriptor.name, node=descriptor.settings, provider="launchers")
    return launcher


# Hydra's scan takes the classes that it finds in the module.
globals().update({launcher.__name__: launcher for launcher in map(_register, descriptors().values())})

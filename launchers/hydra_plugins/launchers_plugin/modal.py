"""`hydra/launcher=modal`: the jobs run in containers at Modal. Its settings stand under `provider` of the app's config."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from launchers.launcher import RemoteLauncher
from launchers.settings import ModalSettings, RentalSettings, Timing


@dataclass
class ModalLauncherConfig:
    _target_: str = "hydra_plugins.launchers_plugin.modal.ModalLauncher"
    rental: Any = "${provider}"
    timing: Timing = field(default_factory=Timing)
    preflight: str | None = None
    """A function of the app, "package.module.function", that checks each job's composed config before anything starts."""


class ModalLauncher(RemoteLauncher):
    """Runs the jobs at Modal, each in a container of its own, and brings the results home."""

    provider = "modal"
    schema = ModalSettings

    def check_settings(self, settings: RentalSettings, jobs: int) -> None:
        from launchers.providers.modal.checks import check_settings

        assert isinstance(settings, ModalSettings)
        check_settings(settings)


store = ConfigStore.instance().store
store(group="hydra/launcher", name="modal", node=ModalLauncherConfig, provider="launchers")
# An app's provider file names this in its defaults list, as `/launchers/modal@provider`: a misspelt knob then fails.
store(group="launchers", name="modal", node=ModalSettings, provider="launchers")

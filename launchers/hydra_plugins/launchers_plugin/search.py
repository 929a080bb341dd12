"""`hydra/sweeper=search`: grids, lists and searches whose jobs are chosen when a machine is free for them."""

from dataclasses import dataclass

from hydra.core.config_store import ConfigStore

from launchers.search.settings import SweepSettings
from launchers.search.sweeper import Searching


@dataclass
class SearchSweeperConfig(SweepSettings):
    _target_: str = "hydra_plugins.launchers_plugin.search.SearchSweeper"


class SearchSweeper(Searching):
    """Chooses the jobs of a sweep."""


ConfigStore.instance().store(group="hydra/sweeper", name="search", node=SearchSweeperConfig, provider="launchers")

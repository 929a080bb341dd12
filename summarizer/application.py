"""The Hydra application: the schema in the ConfigStore, the resolvers, and the function that Hydra calls per job."""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from summarizer import resolvers
from summarizer.config import Config
from summarizer.paths import config_dir


def register() -> None:
    """Make schema and resolvers known; whoever composes the config (the command, a test) calls it first."""
    ConfigStore.instance().store(name="schema", node=Config)
    resolvers.register()


def job(config: DictConfig) -> float | None:
    """One job, in its own folder; returns the value a sweep optimises, or None for tasks that have none."""
    from summarizer.tasks import run_task

    return run_task(config)


def run_hydra(arguments: list[str]) -> None:
    """Hand shaped arguments to Hydra; raises what the job or the composition raises."""
    register()
    sys.argv = [sys.argv[0], *arguments]
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()

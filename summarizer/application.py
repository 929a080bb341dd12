"""The Hydra application: the schema in the ConfigStore, the resolvers, and the function that Hydra calls per job."""

from __future__ import annotations

import sys

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from summarizer import resolvers
from summarizer.config import Config
from summarizer.errors import EXIT_INTERRUPTED, Interrupted
from summarizer.paths import config_dir


def register() -> None:
    """Make schema and resolvers known; whoever composes the config (the command, a test) calls it first."""
    ConfigStore.instance().store(name="schema", node=Config)
    resolvers.register()


def job(config: DictConfig) -> float | None:
    """One job, in its own folder; returns the value that a sweep compares jobs by, or None for tasks that have none.

    Raises:
        SystemExit, KeyboardInterrupt: it was asked to stop. No Exception, because those are failures, after which the other
            jobs of a sweep go on.
    """
    from summarizer.tasks import run_task

    try:
        return run_task(config)
    except Interrupted as stopped:
        text = str(stopped)
        print(text[:1].upper() + text[1:], file=sys.stderr)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except SystemExit as left:
        # Before and after its steps Lightning handles signals itself: it makes exit(1) of Ctrl-C, a class of its own of SIGTERM.
        if isinstance(left.__context__, KeyboardInterrupt) or type(left) is not SystemExit:
            raise KeyboardInterrupt from None
        raise


def run_hydra(arguments: list[str]) -> None:
    """Hand shaped arguments to Hydra; raises what the job or the composition raises."""
    register()
    sys.argv = [sys.argv[0], *arguments]
    hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(job)()

"""The config as the command composes it, in this process."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.version import VersionBase
from omegaconf import DictConfig

from summarizer.application import register
from summarizer.command_line import shape
from summarizer.paths import config_dir


def composed(*arguments: str) -> DictConfig:
    """What a job of this command line gets.

    Hydra keeps the version whose behaviour was asked for until somebody asks for another, beyond the `with`. Those that ask
    for none, as Hydra's own test suites do, would get ours: with it, jobs that stay in the directory they were started in.
    """
    base = VersionBase.instance()
    before = base.version_base
    register()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose("config", shape(list(arguments)))
    finally:
        base.version_base = before

"""The config as the command composes it, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.version import VersionBase
from omegaconf import DictConfig

from summarizer.application import register
from summarizer.command_line import shape
from summarizer.paths import config_dir


def composed(*arguments: str, hydra: bool = False, config_dirs: Sequence[Path] = ()) -> DictConfig:
    """What a job of this command line gets.

    Args:
        hydra: with Hydra's own settings.
        config_dirs: what `--config-dir` names on the command line.

    Hydra keeps the version whose behaviour was asked for until somebody asks for another, beyond the `with`. Those that ask
    for none, as Hydra's own test suites do, would get ours: with it, jobs that stay in the directory they were started in.
    """
    base = VersionBase.instance()
    before = base.version_base
    register()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            extra = (
                [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in config_dirs)}]"] if config_dirs else []
            )
            return compose("config", [*shape(list(arguments)), *extra], return_hydra_config=hydra)
    finally:
        base.version_base = before

"""The composed config in this process, for Python callers; the command line goes through `hydra.main` instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase
from omegaconf import DictConfig

from summarizer.application import job, register
from summarizer.command_line import shape
from summarizer.composition_errors import sentence
from summarizer.errors import ConfigError
from summarizer.paths import config_dir


@contextmanager
def hydra_started() -> Iterator[None]:
    """Hydra with this project's config for the time of the block; what a notebook had started before is put back.

    Hydra keeps the version whose behavior was asked for beyond its own `with`: that is put back too.

    Raises:
        ConfigError: the config cannot be composed, in the words that the command line has for it.
    """
    base, running = VersionBase.instance(), GlobalHydra.instance()
    before, hydra_before = base.version_base, running.hydra
    register()
    running.clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            yield
    except ConfigError:
        raise
    except Exception as error:
        text = sentence(error)
        if text is None:
            raise
        raise ConfigError(text) from error
    finally:
        base.version_base = before
        running.hydra = hydra_before


def composed(overrides: Sequence[str], *, hydra: bool = False, config_dirs: Sequence[Path] = ()) -> DictConfig:
    """What a job of these overrides gets, as `python -m summarizer` would compose it.

    Args:
        hydra: with Hydra's own settings.
        config_dirs: further folders of options, as `--config-dir` names them.

    Raises:
        ConfigError: an override that cannot be meant.
    """
    search = [f"hydra.searchpath=[{','.join(f'file://{folder}' for folder in config_dirs)}]"] if config_dirs else []
    with hydra_started():
        return compose("config", [*shape(list(overrides)), *search], return_hydra_config=hydra)


def run_jobs(overrides: Sequence[str]) -> list[Any]:
    """Run what a command line with these overrides runs, through the launcher of its provider.

    Returns:
        One `hydra.core.utils.JobReturn` per job, all of them finished.

    Raises:
        SummarizerError: a job's own error.
        ConfigError: an override that cannot be meant.
    """
    with hydra_started():
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        batches = hydra.multirun("config", job, shape(list(overrides)))
    return [done for batch in batches or [] for done in batch]

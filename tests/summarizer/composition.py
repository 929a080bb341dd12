"""The config as the command composes it, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from summarizer import composition


def composed(*arguments: str, hydra: bool = False, config_dirs: Sequence[Path] = ()) -> DictConfig:
    """What a job of this command line gets."""
    return composition.composed(arguments, hydra=hydra, config_dirs=config_dirs)

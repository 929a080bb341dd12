"""The config as the command composes it, in this process."""

from __future__ import annotations

from omegaconf import DictConfig

from summarizer import composition


def composed(*arguments: str) -> DictConfig:
    """What a job of this command line gets."""
    return composition.composed(arguments)

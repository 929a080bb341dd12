"""Where the project's own files and the user's cache are. Every such path is made here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def config_dir() -> Path:
    """The folder `conf`: beside this package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def option_settings(file: Path) -> DictConfig:
    """The settings of an option's file in `conf`, above those of the options in the same group that it inherits from.

    For code that runs inside of a Hydra application, where Hydra itself does not compose a second time.
    """
    from omegaconf import DictConfig, OmegaConf

    own = OmegaConf.load(file)
    assert isinstance(own, DictConfig)
    parents = own.pop("defaults", [])
    inherited = [option_settings(file.parent / f"{parent.removesuffix('@_here_')}.yaml") for parent in parents]
    merged = OmegaConf.merge(*inherited, own)
    assert isinstance(merged, DictConfig)
    return merged


def cache_dir() -> Path:
    """The user's cache of built corpora and tokenized data; `SUMMARIZER_CACHE` overrides it."""
    import platformdirs

    override = os.environ.get("SUMMARIZER_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("summarizer"))


def shipped_model_dir() -> Path:
    """The small model that the project trained itself and ships, so that prediction works before any training."""
    return Path(__file__).resolve().parent / "models" / "shipped"

"""Where the project's own files and the user's cache are. Every such path is made here."""

from __future__ import annotations

import os
from pathlib import Path


def config_dir() -> Path:
    """The folder `conf`: beside this package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def cache_dir() -> Path:
    """The user's cache of built corpora and tokenized data; `SUMMARIZER_CACHE` overrides it."""
    import platformdirs

    override = os.environ.get("SUMMARIZER_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("summarizer"))


def shipped_model_dir() -> Path:
    """The small model that the project trained itself and ships, so that prediction works before any training."""
    return Path(__file__).resolve().parent / "models" / "shipped"

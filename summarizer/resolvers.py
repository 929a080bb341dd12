"""Resolvers that option files use: `${scaled:local,cloud}`, `${fraction:n,parts}` and `${direction_of:metric}`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from summarizer.objective import direction_of


def scaled(local: Any, cloud: Any, *, _root_: DictConfig) -> Any:
    """`local` on this machine's kind of hardware, `cloud` on a data-center card (`hardware.scale`)."""
    return cloud if OmegaConf.select(_root_, "hardware.scale") == "cloud" else local


def fraction(whole: int, parts: int) -> int:
    """`whole / parts`, at least 1: batch sizes of models larger than the one a hardware option counts for."""
    return max(1, int(whole) // int(parts))


def register() -> None:
    """Make the resolvers known to OmegaConf; calling it again does nothing."""
    for name, function in (("scaled", scaled), ("fraction", fraction), ("direction_of", direction_of)):
        if not OmegaConf.has_resolver(name):
            OmegaConf.register_new_resolver(name, function)

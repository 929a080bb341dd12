"""A job of the product, composed and with its data prepared, for benchmarks that run something else on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from summarizer.hardware import Device


def prepared_job(overrides: list[str]) -> tuple[DictConfig, Device, Any]:
    """The config that these overrides compose, the device it resolves to, and its tokenizer and train split."""
    from hydra import compose, initialize_config_dir

    from summarizer.application import register
    from summarizer.hardware import resolve
    from summarizer.paths import config_dir
    from summarizer.tasks.prepare import prepare_data

    register()
    with initialize_config_dir(str(config_dir()), version_base=None):
        config = compose("config", overrides)
    return config, resolve(config, overrides), prepare_data(config, ("train",))

"""task=predict: texts in, summaries out, from a finished job's model or the one that ships with the project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from summarizer.config import Architecture
from summarizer.hardware import resolve, set_threads
from summarizer.models.loading import (
    build_model,
    finished_model,
    load_tokenizer,
    load_trained,
    refuse_missing_new_tokens,
)
from summarizer.paths import shipped_model_dir
from summarizer.prediction.inputs import Documents
from summarizer.run import Run

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(config: DictConfig) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model of the job that `run` names; else the shipped one for the default model, a pretrained one as the hub has it."""
    if config.run:
        return load_trained(Run(Path(config.run).expanduser().resolve()).model)
    if config.model.architecture == Architecture.copy_transformer:
        return load_trained(shipped_model_dir())
    tokenizer = load_tokenizer(config.model, training_texts=lambda: ())
    return finished_model(build_model(config.model, tokenizer, config.hardware.attention)).eval(), tokenizer


def rouge_tokenizer_of(config: DictConfig) -> str | None:
    """Of the job that `run` names."""
    return Run(Path(config.run).expanduser().resolve()).rouge_tokenizer() if config.run else None


def load_ready(config: DictConfig, overrides: list[str]) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model on this machine's device, in eval mode; `config` gets the limits that the model itself has.

    Raises:
        HardwareError: the device is not here.
        ConfigError: more new tokens than the model has positions.
    """
    device = resolve(config, overrides)
    set_threads(config.trainer.threads)
    model, tokenizer = load(config)
    refuse_missing_new_tokens(model, config)
    # a model's own limit holds whatever the config says: the shipped one was trained at the local size
    own_limit = getattr(model.config, "max_source_positions", config.model.max_source_tokens)
    config.model.max_source_tokens = min(config.model.max_source_tokens, own_limit)
    on_device: Any = model
    return on_device.to(device.accelerator).eval(), tokenizer


def predict(config: DictConfig, overrides: list[str]) -> None:
    """Summarize `config.input`; the summaries go to `config.predict.output`."""
    # before the model: a misspelled path should not cost its loading
    documents = Documents(config)
    from summarizer.prediction.outputs import check_output, write_predictions
    from summarizer.prediction.summarize import predict_texts

    check_output(config)
    model, tokenizer = load_ready(config, overrides)
    write_predictions(predict_texts(model, tokenizer, documents, config, rouge_tokenizer_of(config)), config)

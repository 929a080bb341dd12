"""Settings that contradict each other, found while nothing has been paid for. Pure: no device, file or network is asked."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from summarizer.config import Task
from summarizer.errors import ConfigError
from summarizer.objective import objective_is_possible

SCHEDULERS = ("linear", "cosine", "constant", "inverse_sqrt")
CHOICES = {
    "hardware.accelerator": ("auto", "cpu", "mps", "cuda"),
    "hardware.scale": ("local", "cloud"),
    "hardware.precision": ("auto", "32-true", "bf16-mixed", "bf16-true"),
    "scheduler.name": SCHEDULERS,
    "optim.name": ("adamw", "adafactor"),
    "trainer.packing": ("auto", "always", "never"),
    "generation.packing": ("auto", "always", "never"),
    "generation.reranking": ("none", "mbr"),
    "generation.precision": ("32-true", "bf16-mixed"),
    "trainer.strategy": ("auto", "ddp", "fsdp"),
    "callbacks.mode": ("min", "max"),
    "data.kind": ("auto", "debsum", "docstrings", "hub", "files"),
    "predict.output_format": ("auto", "text", "jsonl"),
    "predict.long_input": ("truncate", "windows"),
    "task": tuple(task.value for task in Task),
}
POSITIVE = (
    "model.max_source_tokens", "model.max_target_tokens", "hardware.devices", "hardware.batch_size", "hardware.tokens_per_step",
    "hardware.generation_tokens",
    "optim.effective_batch_size", "trainer.batch_size", "trainer.max_epochs", "trainer.devices", "trainer.validations",
    "trainer.checkpoint_every_n_steps", "trainer.log_every_n_steps", "generation.num_beams",
)  # fmt: skip


def check(config: DictConfig) -> None:
    """Check one composed job.

    Raises:
        ConfigError: the first thing that cannot be meant, in one sentence.
    """
    for rule in RULES:
        rule(config)


def value(config: DictConfig, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node


def keys_are_known(config: DictConfig) -> None:
    """`+key=value` adds what the schema does not know, and nothing would read it."""
    nodes: list[tuple[str, DictConfig]] = [("", config)]
    while nodes:
        prefix, node = nodes.pop()
        typed = OmegaConf.get_type(node)
        if typed is None or not is_dataclass(typed):
            continue
        known = [field.name for field in fields(typed)]
        for key in map(str, node):
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {prefix}{close[0]}?" if close else "`--cfg job` prints every key."
                raise ConfigError(f"{prefix}{key} is no key of this program; {hint}")
            if OmegaConf.is_dict(node._get_node(key)) and node[key] is not None:
                nodes.append((f"{prefix}{key}.", node[key]))


def choices_are_known(config: DictConfig) -> None:
    for key, valid in CHOICES.items():
        chosen = str(value(config, key))
        if key == "hardware.precision" and chosen.startswith(("16", "fp16")):
            raise ConfigError(
                "hardware.precision=16: fp16 overflows in T5; use bf16-mixed, or 32-true on a card without bf16."
            )
        if chosen not in valid:
            close = difflib.get_close_matches(chosen, valid, n=1)
            hint = f"did you mean {close[0]}?" if close else f"valid are {', '.join(valid)}."
            raise ConfigError(f"{key}={chosen} is not known; {hint}")


def numbers_are_possible(config: DictConfig) -> None:
    for key in POSITIVE:
        if value(config, key) < 1:
            raise ConfigError(f"{key}={value(config, key)} must be at least 1.")
    if config.optim.lr <= 0:
        raise ConfigError(f"optim.lr={config.optim.lr} must be above 0.")
    if config.trainer.max_steps < -1 or config.trainer.max_steps == 0:
        raise ConfigError(
            f"trainer.max_steps={config.trainer.max_steps} must be at least 1, or -1 to let max_epochs decide."
        )
    for key in ("data.max_train_samples", "data.max_validation_samples", "data.max_test_samples"):
        number = value(config, key)
        if number is not None and number < 1:
            raise ConfigError(f"{key}={number} must be at least 1, or null for all.")
    for key in ("optim.label_smoothing", "scheduler.warmup_ratio"):
        if not 0 <= value(config, key) < 1:
            raise ConfigError(f"{key}={value(config, key)} must be at least 0 and below 1.")
    decay = config.optim.ema_decay
    if decay is not None and not 0 < decay < 1:
        raise ConfigError(f"optim.ema_decay={decay} must be between 0 and 1, or null to train without.")


def lengths_fit(config: DictConfig) -> None:
    longest = config.model.max_source_tokens + config.model.max_target_tokens
    budget = config.hardware.tokens_per_step
    # a finished model is used within hardware.generation_tokens, on whatever machine
    if longest > budget and config.task in (Task.train, Task.prepare):
        raise ConfigError(
            f"one document of model.max_source_tokens + model.max_target_tokens = {longest} tokens does not fit into "
            f"hardware.tokens_per_step={budget}: lower the former or raise the latter."
        )
    positions = config.model.positions
    if positions is not None and config.model.max_source_tokens > positions:
        raise ConfigError(
            f"model.max_source_tokens={config.model.max_source_tokens} is above the model.positions={positions} of "
            f"{config.model.name}: lower it, or choose a model for longer documents (model=led, model=t5_base)."
        )
    most = config.generation.max_new_tokens
    if most is not None and config.generation.min_new_tokens > most:
        raise ConfigError(
            f"generation.min_new_tokens={config.generation.min_new_tokens} is above generation.max_new_tokens={most}."
        )
    steps, warmup = config.trainer.max_steps, config.scheduler.warmup_steps
    if warmup is not None and 0 < steps <= warmup:
        raise ConfigError(
            f"scheduler.warmup_steps={warmup} leaves no step of trainer.max_steps={steps} after the warm-up."
        )


def model_is_complete(config: DictConfig) -> None:
    model = config.model
    if model.architecture.value != "copy_transformer" and not model.hub_id:
        raise ConfigError(f"model={model.name} needs model.hub_id: an id on the hub or a local folder.")
    if model.architecture.value == "copy_transformer" and model.shape is None:
        raise ConfigError(f"model={model.name} needs model.shape: see conf/model/tiny.yaml.")
    if model.architecture.value == "causal_lora" and model.lora is None:
        raise ConfigError(f"model={model.name} needs model.lora: see conf/model/llm_lora.yaml.")


def data_is_complete(config: DictConfig) -> None:
    data = config.data
    if data.kind == "hub" and not data.hub_id:
        raise ConfigError("data.kind=hub needs data.hub_id.")
    if data.kind == "files" and config.task in ("train", "prepare") and not config.resume:
        for key in ("train_file", "validation_file"):
            if not data[key]:
                raise ConfigError(
                    f"data=files needs data.{key}: name a csv, jsonl or parquet file (local or s3://, gs://, hf://)."
                )
    if data.streaming and data.kind not in ("files", "hub"):
        raise ConfigError(
            f"data.streaming=true is for data=files and hub data sets; {data.name} is small: leave it out."
        )
    if data.streaming and config.trainer.max_steps < 1 and config.task == "train":
        raise ConfigError("data.streaming=true has no known length: set trainer.max_steps.")


def task_has_what_it_needs(config: DictConfig) -> None:
    if config.task == "evaluate" and not config.run:
        raise ConfigError("task=evaluate needs run=<folder of a finished job>.")
    if config.task == "evaluate" and not config.evaluation.splits:
        raise ConfigError("task=evaluate with evaluation.splits=[] evaluates nothing: set evaluation.splits=[test].")
    if config.task == "predict" and not config.input:
        raise ConfigError("task=predict needs input=<file, folder or - for standard input>.")
    if config.resume and config.task != "train":
        raise ConfigError(
            f"resume continues a training job, so it does not go with task={config.task}: leave one of them out."
        )
    if config.input and config.task != "predict":
        raise ConfigError(f"input is read by task=predict only, but task={config.task}: leave one of them out.")
    if config.run and config.task not in ("evaluate", "predict"):
        raise ConfigError(f"run=<folder> goes with task=evaluate or task=predict, but task={config.task}.")


def devices_fit(config: DictConfig) -> None:
    devices, strategy, accelerator = config.trainer.devices, config.trainer.strategy, config.hardware.accelerator
    if devices > 1 and accelerator == "mps":
        raise ConfigError(f"trainer.devices={devices} with hardware=mps: there is one such device.")
    if strategy == "fsdp" and devices == 1 and accelerator != "cuda":
        raise ConfigError("trainer=fsdp divides a model over several devices: set trainer.devices=2 or more.")
    if strategy == "fsdp" and config.optim.ema_decay is not None:
        raise ConfigError(
            f"optim.ema_decay={config.optim.ema_decay} with trainer=fsdp: Lightning averages whole weights only; set "
            "optim.ema_decay=null, or trainer=ddp."
        )
    if config.hardware.precision.startswith("bf16") and accelerator == "cuda" and config.hardware.gpu == "T4":
        raise ConfigError("hardware.precision=bf16-mixed with hardware=t4: the card has no bf16; use 32-true.")


def provider_and_hardware_agree(config: DictConfig) -> None:
    provider = str(config.provider.name)
    if provider != "local" and config.hardware.gpu is None:
        raise ConfigError(
            f"provider={provider} rents a card, but hardware={config.hardware.name} names none: choose hardware=4090 "
            "or another card (`--help` lists them)."
        )


RULES: tuple[Callable[[DictConfig], None], ...] = (
    keys_are_known,
    choices_are_known,
    numbers_are_possible,
    lengths_fit,
    model_is_complete,
    data_is_complete,
    task_has_what_it_needs,
    devices_fit,
    provider_and_hardware_agree,
    objective_is_possible,
)

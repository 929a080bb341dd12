"""Settings that contradict each other, found while nothing has been paid for. Pure: no device, file or network is asked."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass

from omegaconf import DictConfig, OmegaConf

from summarizer import preconditions
from summarizer.config import Config, Task
from summarizer.errors import ConfigError
from summarizer.fields import check_read, check_texts, plain_values, value_of
from summarizer.objective import objective_is_possible
from summarizer.ranges import check_numbers
from summarizer.storage.conditions import storage_can_be_meant


def check(config: DictConfig, *, settled: bool = False) -> None:
    """Check one composed job.

    Args:
        settled: `resume` and `run` have been followed: the config is the one that the job has. Until then only what the
            command line says by itself can be judged.

    Raises:
        ConfigError: the first thing that cannot be meant, in one sentence.
    """
    for rule in RULES:
        rule(config)
    if settled or not (config.resume or config.run):
        for rule in RULES_OF_A_WHOLE_JOB:
            rule(config)


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


def fields_hold_what_they_may(config: DictConfig) -> None:
    values = plain_values(config)
    check_texts(Config, values)
    check_numbers(Config, values)


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
    most = config.generation.max_new_tokens or config.model.max_target_tokens
    if config.generation.min_new_tokens > most:
        raise ConfigError(
            f"generation.min_new_tokens={config.generation.min_new_tokens} is above generation.max_new_tokens={most}."
        )
    for key in ("model.max_target_tokens", "generation.max_new_tokens"):
        if positions is not None and (value_of(config, key) or 0) > positions:
            raise ConfigError(
                f"{key}={value_of(config, key)} is above the model.positions={positions} of {config.model.name}: lower it."
            )
    steps, warmup = config.trainer.max_steps, config.scheduler.warmup_steps
    if warmup is not None and 0 < steps <= warmup:
        raise ConfigError(
            f"scheduler.warmup_steps={warmup} leaves no step of trainer.max_steps={steps} after the warm-up."
        )


def model_is_complete(config: DictConfig) -> None:
    model = config.model
    if model.architecture.value != "copy_transformer" and not model.hub_id:
        raise ConfigError(f"model={model.name} needs model.hub_id: an id on the hub, a local folder or a GGUF file.")
    if model.architecture.value == "copy_transformer" and model.shape is None:
        raise ConfigError(f"model={model.name} needs model.shape: see conf/model/tiny.yaml.")
    if model.architecture.value == "causal_lora" and model.lora is None:
        raise ConfigError(f"model={model.name} needs model.lora: see conf/model/llm_lora.yaml.")
    shape = model.shape
    if shape is not None and shape.d_model % (2 * shape.num_heads):
        raise ConfigError(
            f"model.shape.d_model={shape.d_model} must be a multiple of 2 x model.shape.num_heads={shape.num_heads}."
        )


def settings_are_read(config: DictConfig) -> None:
    check_read(Config, config)


def data_is_complete(config: DictConfig) -> None:
    data = config.data
    if data.kind == "hub" and not data.hub_id:
        raise ConfigError("data.kind=hub needs data.hub_id.")
    if data.kind == "files" and config.task in ("train", "prepare"):
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
    if config.task in ("report", "compare") and not config.runs:
        raise ConfigError(f"task={config.task} needs runs=<a folder, or a pattern such as 'outputs/**'>.")
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
    nodes = config.hardware.nodes
    if nodes > 1 and config.provider.name == "local" and os.environ.get("NNODES") != str(nodes):
        raise ConfigError(
            f"hardware.nodes={nodes}: this machine is one; a provider whose machines share a network,"
            " such as a Slurm cluster, starts several."
        )
    if devices > 1 and accelerator == "mps":
        raise ConfigError(f"trainer.devices={devices} with hardware=mps: there is one such device.")
    if strategy == "fsdp" and devices * nodes == 1 and accelerator != "cuda":
        raise ConfigError("trainer=fsdp divides a model over several devices: set trainer.devices=2 or more.")
    if strategy == "fsdp" and config.optim.ema_decay is not None:
        raise ConfigError(
            f"optim.ema_decay={config.optim.ema_decay} with trainer=fsdp: only whole weights are averaged; set "
            "optim.ema_decay=null, or trainer=ddp."
        )
    if config.hardware.precision.startswith("bf16") and accelerator == "cuda" and config.hardware.gpu == "T4":
        raise ConfigError("hardware.precision=bf16-mixed with hardware=t4: the card has no bf16; use 32-true.")


def provider_and_hardware_agree(config: DictConfig) -> None:
    provider = str(config.provider.name)
    if config.provider.get("max_price", 0) > 0 and config.hardware.gpu is None:
        raise ConfigError(
            f"provider={provider} rents a card, but hardware={config.hardware.name} names none: choose hardware=4090 "
            "or another card (`--help` lists them)."
        )


RULES: tuple[Callable[[DictConfig], None], ...] = (
    keys_are_known,
    fields_hold_what_they_may,
    task_has_what_it_needs,
    provider_and_hardware_agree,
    objective_is_possible,
    storage_can_be_meant,
)
RULES_OF_A_WHOLE_JOB: tuple[Callable[[DictConfig], None], ...] = (
    lengths_fit,
    model_is_complete,
    settings_are_read,
    data_is_complete,
    devices_fit,
    *preconditions.RULES,
)

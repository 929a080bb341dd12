"""Tokenizers and models by config: our own, a hub's, or a trained job's. How they are read is in `pretrained`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer.config import Architecture
from summarizer.errors import ModelError, OutputError
from summarizer.models.adapters import target_modules, with_adapter
from summarizer.models.pretrained import Source, load_config, load_pretrained_tokenizer, load_weights, translated

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def source_of(model: DictConfig) -> Source:
    """Where a configured model comes from."""
    place, gguf = model.hub_id, model.gguf_file
    if gguf is None and Path(place).is_file():
        place, gguf = str(Path(place).parent), Path(place).name
    return Source(place, model.revision, bool(model.trust_remote_code), gguf=gguf)


def check_model(model: DictConfig, *, download: bool) -> None:
    """Ask of a configured model what building it will ask, without reading a weight: before any data is prepared for it.

    Args:
        download: whether weights that are not on this machine are fetched for that. What builds the model needs them anyway.

    Raises:
        HubError, ModelError: as `build_model`.
    """
    if model.architecture == Architecture.copy_transformer:
        return
    import torch

    auto, source = auto_class(model), source_of(model)
    config = load_config(source)
    refuse_missing_positions(model, config)
    if model.pretrained and (download or source.local):
        built = load_weights(auto, source, config=config, device_map="meta")
    else:
        with translated(source, "model"), torch.device("meta"):
            built = auto.from_config(config, trust_remote_code=source.trust_remote_code)
    if model.architecture == Architecture.causal_lora:
        target_modules(built, model.lora.target_modules)


def auto_class(model: DictConfig) -> Any:
    """transformers' class for a configured model's kind."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForCausalLM if model.architecture == Architecture.causal_lora else AutoModelForSeq2SeqLM


def load_tokenizer(model: DictConfig, training_texts: Callable[[], Iterable[str]]) -> PreTrainedTokenizerBase:
    """The model's tokenizer; a copy transformer's is trained on the texts of the train split.

    Args:
        training_texts: called only when a tokenizer has to be trained.

    Raises:
        HubError, ModelError: see `pretrained.translated`.
    """
    if model.architecture == Architecture.copy_transformer:
        from summarizer.models.copy_transformer.tokenizer import train_tokenizer

        return train_tokenizer(training_texts(), model.shape.vocab_size)
    tokenizer = load_pretrained_tokenizer(source_of(model))
    if tokenizer.pad_token_id is None:
        # decoder-only models often come without: padding is masked, so the end token serves
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a tokenizer's folder, whole or not at all, in place of an earlier one.

    Raises:
        OutputError: it cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        tokenizer.save_pretrained(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OutputError(
            f"{folder} cannot be written ({error.strerror}): free disk space or name another folder with hydra.sweep.dir=."
        ) from error


def load_saved_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """A tokenizer as `save_tokenizer` wrote it; no hub is asked.

    Raises:
        ModelError: the folder holds none, or a damaged one.
    """
    advice = f"remove {folder} to have it made again, which gives the same tokenizer from the same data"
    return load_pretrained_tokenizer(Source(str(folder), advice=advice))


def build_model(model: DictConfig, tokenizer: PreTrainedTokenizerBase, attention: str = "sdpa") -> PreTrainedModel:
    """The model to train, in float32, on the CPU.

    Raises:
        HubError, ModelError: see `pretrained.translated`; also a tokenizer with more ids than the model has embeddings.
    """
    import torch

    if model.architecture == Architecture.copy_transformer:
        built = build_copy_transformer(model, tokenizer)
    else:
        built = build_hub_model(model, attention)
        if model.gradient_checkpointing:
            built.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    weight = built.get_input_embeddings().weight
    assert isinstance(weight, torch.Tensor)
    rows = weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} ids, but the model {model.name} only {rows} embeddings: take both from one "
            "model.hub_id."
        )
    if model.architecture == Architecture.causal_lora:
        built = with_adapter(built, model.lora)
    return built


def build_copy_transformer(model: DictConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration

    shape = {key: value for key, value in model.shape.items() if key != "vocab_size"}
    config = CopyTransformerConfig(
        vocab_size=len(tokenizer),
        max_source_positions=model.max_source_tokens,
        max_target_positions=model.max_target_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
        **({} if model.dropout is None else {"dropout": model.dropout}),
        **shape,
    )
    return CopyTransformerForConditionalGeneration(config)


def build_hub_model(model: DictConfig, attention: str) -> PreTrainedModel:
    import torch

    auto, source = auto_class(model), source_of(model)
    config = load_config(source)
    refuse_missing_positions(model, config)
    if model.dropout is not None:
        for key in ("dropout", "dropout_rate"):
            if hasattr(config, key):
                setattr(config, key, model.dropout)
    options: dict[str, Any] = {"dtype": torch.float32}
    if config.model_type != "led":  # Longformer's windowed attention is its own
        options["attn_implementation"] = attention
    if model.pretrained:
        return load_weights(auto, source, config=config, **options)
    with translated(source, "model"):
        fresh = auto.from_config(config, trust_remote_code=source.trust_remote_code, **options)
    if config.model_type == "t5" and not config.scale_decoder_outputs:
        untie_head(fresh)
    return fresh


def refuse_missing_positions(model: DictConfig, config: Any) -> None:
    """A document beyond a model's learned positions ends a training on a GPU in an assertion that names nothing.

    Raises:
        ModelError: the model's own config has fewer positions than `model` lets texts be long.
    """
    both = getattr(config, "max_position_embeddings", None)  # LED counts for its two sides; T5 has no such number
    source = getattr(config, "max_encoder_position_embeddings", both)
    target = getattr(config, "max_decoder_position_embeddings", both)
    wanted = {
        "model.max_source_tokens": (model.max_source_tokens, source),
        "model.max_target_tokens": (model.max_target_tokens, target),
    }
    if not config.is_encoder_decoder:
        wanted = {
            "model.max_source_tokens + model.max_target_tokens": (
                model.max_source_tokens + model.max_target_tokens,
                both,
            )
        }
    for what, (tokens, positions) in wanted.items():
        if positions is not None and tokens > positions:
            raise ModelError(f"{what} is {tokens}, but {model.hub_id} has positions for {positions} tokens: lower it.")


def refuse_missing_new_tokens(model: Any, job: DictConfig) -> None:
    """A summary beyond a model's learned positions ends as a document beyond them does.

    Args:
        model: built or loaded, of any kind.
        job: the whole config.

    Raises:
        ModelError: generation.max_new_tokens is more than the model has positions for.
    """
    config, tokens = model.config, job.generation.max_new_tokens or job.model.max_target_tokens
    both = getattr(config, "max_position_embeddings", None)
    positions = getattr(config, "max_decoder_position_embeddings", both)
    what = "generation.max_new_tokens"
    if not config.is_encoder_decoder:
        what, tokens = f"model.max_source_tokens + {what}", tokens + job.model.max_source_tokens
    if positions is not None and tokens > positions:
        raise ModelError(f"{what} is {tokens}, but {job.model.name} has positions for {positions} tokens: lower it.")


def untie_head(model: Any) -> None:
    """Give a T5 v1.1 or FLAN-T5 its own output embeddings: transformers 5 ties those of every fresh T5, while the
    checkpoints of these families have two matrices, and no scaling before the head that would suit a tied one."""
    import torch

    head = model.lm_head
    head.weight = torch.nn.Parameter(torch.empty_like(head.weight).normal_(std=model.config.d_model**-0.5))
    model.all_tied_weights_keys.pop("lm_head.weight", None)


def load_trained(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A finished model folder, as training wrote it.

    Raises:
        ModelError: the folder holds no model, or not all of one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    import summarizer.models.copy_transformer  # noqa: F401  registers our own class with the Auto classes

    try:
        model_type = json.loads((folder / "config.json").read_text()).get("architectures", [""])[0]
    except (OSError, json.JSONDecodeError) as error:
        raise ModelError(
            f"{folder} holds no finished model (no readable config.json): the job must have run to its end; continue it with "
            f"resume={folder.parent}."
        ) from error
    auto: Any = AutoModelForCausalLM if "CausalLM" in model_type else AutoModelForSeq2SeqLM
    # A folder may come from a rented machine: no code of its own runs, no pickle is read. In float32 whatever the files
    # hold: half precision is for storing, and slow or wrong on a CPU.
    source = Source(str(folder), safetensors_only=True, advice="download or export the job's model again")
    model = load_weights(auto, source, dtype=torch.float32)
    return model.eval(), load_pretrained_tokenizer(source)


def finished_model(trained: Any) -> PreTrainedModel:
    """What is saved and evaluated: an adapter is merged into its base, anything else is returned as it is."""
    return trained.merge_and_unload() if hasattr(trained, "merge_and_unload") else trained

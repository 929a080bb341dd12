"""What a checkpoint depends on, part by part: with another model, tokenizer, data or plan it means something else."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from summarizer.quoting import quote_value

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from summarizer.data.tokenized import TokenizedSplit, TokenizedStream

Part = dict[str, Any]
"""Config keys with their values, and `rows`, `ids` and `fingerprint` of what the config only names. Plain JSON."""

EXECUTION = ("fused", "packing", "precision")
"""Settings by which the same thing is computed in another way; a resume may change them."""
CONSEQUENCES = {
    "model": "its weights do not fit",
    "tokenizer": "its token ids would mean other words",
    "train": "its place in the data would be a place in other data",
    "validation": "its best score was measured in another way",
    "batches": "its place in the list of batches would be a place in another list",
    "optimization": "its optimizer and schedule are those of the old settings",
}


@dataclass(frozen=True)
class CheckpointKey:
    """All that the state in a checkpoint depends on. Loggers, threads, evaluation, export and the like are not in it."""

    model: Part
    tokenizer: Part
    train: Part
    validation: Part
    batches: Part
    optimization: Part

    def stored(self) -> dict[str, Part]:
        """As it is written into a checkpoint."""
        return asdict(self)

    def changes_since(self, stored: Mapping[str, Part]) -> dict[str, dict[str, tuple[Any, Any]]]:
        """Part -> key -> value in the checkpoint and value now, of what differs."""
        found = {}
        for part in (field.name for field in fields(self)):
            then, now = stored[part], getattr(self, part)
            changed = {key: (then.get(key), now.get(key)) for key in {**then, **now} if then.get(key) != now.get(key)}
            if changed:
                found[part] = changed
        return found


def checkpoint_key(
    config: DictConfig,
    splits: Mapping[str, TokenizedSplit | TokenizedStream],
    tokenizer: PreTrainedTokenizerBase,
) -> CheckpointKey:
    """The key of a training.

    Args:
        config: settled, with this machine's hardware.
    """
    from summarizer.data.tokenized import tokenizer_fingerprint

    def read(*keys: str) -> Part:
        return {key: plain(OmegaConf.select(config, key)) for key in keys}

    lengths = read("model.max_source_tokens", "model.max_target_tokens", "model.source_prefix", "model.source_suffix")
    validation = read("callbacks.monitor", "callbacks.mode")
    if config.callbacks.monitor != "validation/loss":  # measured on summaries
        validation |= read("trainer.validation_samples") | group(config, "generation")
    on_card = config.hardware.accelerator == "cuda"
    packing = {"auto": "always" if on_card else "never"}.get(config.trainer.packing, config.trainer.packing)
    hub_id = config.model.hub_id
    return CheckpointKey(
        model=read("model.architecture", "model.dropout") | group(config, "model.shape") | group(config, "model.lora")
        | {"model.hub_id": "a folder" if hub_id and Path(hub_id).expanduser().exists() else hub_id}
        | ({"model.gguf_file": config.model.gguf_file} if config.model.gguf_file else {}),
        tokenizer={"ids": len(tokenizer), "fingerprint": tokenizer_fingerprint(tokenizer)},
        train=described(splits["train"]) | lengths,
        validation=described(splits["validation"]) | validation,
        batches=read(
            "seed", "trainer.max_epochs", "trainer.batch_size", "hardware.tokens_per_step", "optim.effective_batch_size"
        )
        | {"trainer.packing": packing},
        optimization=group(config, "optim") | group(config, "scheduler")
        | read("trainer.max_steps", "trainer.validations"),
    )  # fmt: skip


def described(split: TokenizedSplit | TokenizedStream) -> Part:
    return {"rows": len(split) if hasattr(split, "__len__") else None, "fingerprint": split.fingerprint}


def group(config: DictConfig, name: str) -> Part:
    """The settings of a group that decide what is computed."""
    content = plain(OmegaConf.select(config, name)) or {}
    return {f"{name}.{key}": value for key, value in content.items() if key not in EXECUTION}


def plain(value: Any) -> Any:
    """JSON of a config's value."""
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True, enum_to_str=True)
    return str(value) if isinstance(value, str) else value  # an Enum of strings is one


def refusal(
    changes: Mapping[str, Mapping[str, tuple[Any, Any]]], checkpoint: Path, job: Path, data: Mapping[str, Any]
) -> str:
    """One sentence: what changed since the checkpoint was written, why that matters, and what to do.

    Args:
        data: file of each split, where it came from files.
    """
    told, ways, kept = [], [], []
    for part, changed in changes.items():
        if "fingerprint" in changed:
            count, unit = ("ids", "token ids") if part == "tokenizer" else ("rows", "rows")
            then, now = changed.get(count, (None, None))
            amount = f"{then} {unit} -> {now}" if count in changed else f"other {unit} of the same number"
            told.append(f"the {part if part == 'tokenizer' else f'{part} data'} changed ({amount})")
            source = f"{job / 'tokenizer'}" if part == "tokenizer" else data.get(part) or f"the {part} data"
            ways.append(f"restore {source}" + ("" if part == "tokenizer" else " (and the settings of data)"))
        settings = {key: values for key, values in changed.items() if key not in ("rows", "ids", "fingerprint")}
        if settings:
            kept += [override(key, then) for key, (then, _) in settings.items()]
            named = ", ".join(f"{key} {then} -> {now}" for key, (then, now) in settings.items())
            told.append(("another model: " if part == "model" else "") + named)
    if kept:
        ways.append(
            f"leave the changes out (`python -m summarizer resume={shlex.quote(str(job))}`, or add {' '.join(kept)})"
        )
    first = next(iter(changes))
    return (
        f"the job cannot be continued from {checkpoint.name}, which belongs to other settings or data "
        f"({'; '.join(told)}): {CONSEQUENCES[first]}. Either {' and '.join(ways)}, or start a new run in another folder "
        "(hydra.sweep.dir=<folder>, without resume)."
    )


def override(key: str, value: Any) -> str:
    """`key=value` as a shell and Hydra take it."""
    text = json.dumps(value) if not isinstance(value, str) else value
    if isinstance(value, str) and not re.fullmatch(r"[\w./-]+", value):
        text = quote_value(value)
    return shlex.quote(f"{key}={text}")

"""LoRA adapters: which layers of a model get one.

Must not know where the model came from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from summarizer.errors import ModelError

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from transformers import PreTrainedModel

ALL = "all-linear"
NAMES = re.compile(r"\[?\s*[\w.]+(\s*,\s*[\w.]+)*\s*\]?")  # q_proj or [q_proj, v_proj]; anything else is an expression


def with_adapter(base: PreTrainedModel, lora: DictConfig) -> Any:
    """`base` frozen, with a trainable low-rank adapter.

    Raises:
        ModelError: no layer is named as model.lora.target_modules says.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=target_modules(base, lora.target_modules),
        task_type=TaskType.CAUSAL_LM,
    )
    return get_peft_model(base, config)


def target_modules(base: Any, asked: str | None) -> str | list[str] | None:
    """What peft takes for model.lora.target_modules: names as a list, an expression as text.

    A single name as text would be an expression for it, which matches no layer's whole path.

    Raises:
        ModelError: a name of no layer, or an expression that is none or matches none.
    """
    if asked is None or asked == ALL:
        return asked
    key = f"model.lora.target_modules={asked}"
    layers = linear_layers(base)
    choices = f"the model has {', '.join(sorted({path.rpartition('.')[2] for path in layers}))}, or take {ALL}."
    if NAMES.fullmatch(asked):
        names = [name.strip() for name in asked.strip("[] ").split(",")]
        for name in names:
            if not any(path == name or path.endswith(f".{name}") for path in layers):
                raise ModelError(f"{key}: no layer is called {name}; {choices}")
        return names
    try:
        matches = any(re.fullmatch(asked, path) for path in layers)
    except re.error as error:
        raise ModelError(
            f"{key} is neither names nor a regular expression ({error}): write names such as [q_proj,v_proj]; {choices}"
        ) from error
    if not matches:
        raise ModelError(f"{key}, a regular expression, matches the path of no layer; {choices}")
    return asked


def linear_layers(base: Any) -> list[str]:
    """Paths of the layers that can have an adapter, without the one that writes tokens."""
    import torch
    from transformers.pytorch_utils import Conv1D

    head = base.get_output_embeddings()
    return [
        path
        for path, layer in base.named_modules()
        if isinstance(layer, (torch.nn.Linear, Conv1D)) and layer is not head
    ]

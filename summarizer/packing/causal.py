"""A decoder-only model, with an adapter or without, run on packs: the summary is learned, each from its own document.

The model's own modules run; only attention is exchanged, through transformers' registry of attention functions. The
exchange stays when the pack is gone, and then is SDPA, so that validation and generation are as before.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from summarizer.data.collate import IGNORED
from summarizer.packing.attention import Spans, backend_obstacle, flash_attention
from summarizer.packing.calls import own_call
from summarizer.packing.cross_entropy import linear_cross_entropy
from summarizer.packing.dense_attention import dense_attention

NAME = "summarizer_packed"
FAMILIES = ("llama", "mistral", "olmo2", "qwen2", "qwen3", "smollm3")


def causal_packing_obstacle(model: Any) -> str | None:
    """Why a decoder-only model cannot run packed, as the end of a sentence; None when it can."""
    config = _base(model).config
    if config.model_type not in FAMILIES:
        return f"{config.model_type} is none of {', '.join(FAMILIES)}"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    windowed = config.model_type == "mistral" and getattr(config, "sliding_window", None)
    if kinds != {"full_attention"} or windowed:
        return "some of its layers attend within a window"
    return None


def _base(model: Any) -> Any:
    """Without peft's wrapper; adapters are inside the layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def packed_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """An attention function of transformers: [1, H, rows, D] in, [1, rows, H, D] out.

    With `packed_spans` among the options each document attends to itself; without, this is transformers' SDPA.
    """
    spans: Spans | None = options.pop("packed_spans", None)
    if spans is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    scale = options.get("scaling") or q.shape[-1] ** -0.5
    dropout = options.get("dropout", 0.0)
    if backend_obstacle("flash", q.device, q.shape[-1], q.dtype, biased=False) is None:
        shared = q.shape[1] // k.shape[1]
        if shared > 1:
            k, v = k.repeat_interleave(shared, 1), v.repeat_interleave(shared, 1)
        # rotated queries and keys may have been widened by the rotation
        q, k, v = (x.to(value.dtype).contiguous() for x in (q, k, v))
        out = flash_attention(q, k, v, spans, spans, causal=True, scale=scale, dropout=dropout)
    else:
        out = dense_attention(q, k, v, spans.offsets, spans.offsets, causal=True, scale=scale, dropout=dropout)
    return out[None], None


class PackedCausal:
    """The loss of packs of `PackedCausalCollator` by a decoder-only model of `FAMILIES`.

    Args:
        model: transformers' model, or peft's around it. Its attention implementation is changed for good; it stays
            SDPA wherever no pack is given.
    """

    def __init__(self, model: Any) -> None:
        obstacle = causal_packing_obstacle(model)
        assert obstacle is None, f"not a model to pack: {obstacle}"
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

        AttentionInterface.register(NAME, packed_attention)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        self.model, self.base = model, _base(model)
        self.base.set_attn_implementation(NAME)

    def hidden(self, pack: dict[str, Any]) -> Tensor:
        """[S + T, d] of every row."""
        ids = pack["input_ids"]
        # a mask of four dimensions is handed through as it is: none is built, and packed attention needs none
        unused = torch.zeros(1, 1, 1, 1, device=ids.device)
        return self.base.model(
            input_ids=ids[None], position_ids=pack["positions"][None], attention_mask=unused, use_cache=False,
            packed_spans=Spans(pack["offsets"], pack["longest"]),
        ).last_hidden_state[0]  # fmt: skip

    def loss(self, pack: dict[str, Any], label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the tokens of the summaries, a float32 scalar."""
        # under FSDP the layers gather themselves; what lies outside them the whole model's call does
        return cast(Tensor, own_call(self.model, self._loss, pack, label_smoothing))

    def _loss(self, pack: dict[str, Any], label_smoothing: float) -> Tensor:
        hidden = self.hidden(pack)[pack["label_rows"]]
        head = self.base.lm_head
        if hasattr(head, "base_layer"):
            logits = head(hidden).float()
            return F.cross_entropy(logits, pack["labels"], ignore_index=IGNORED, label_smoothing=label_smoothing)
        kind = hidden.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else head.weight.dtype
        with torch.autocast(kind, enabled=False):
            return linear_cross_entropy(hidden.to(compute), head.weight, head.bias, pack["labels"], label_smoothing)

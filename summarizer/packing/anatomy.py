"""Where T5, BART, PEGASUS and mBART keep their parts: transformers' modules as plain tuples of their live parameters.

One description for the five families, so that one packed forward pass and one decoder step serve them all. Nothing is
copied: the tuples hold the model's own parameters, hence its names, checkpoints and optimizer stay what they are. They
are taken anew for every pass, because `module.to` replaces parameters; those of a layer inside the layer's own call
(`calls`), because FSDP has them whole only there.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from summarizer.packing.calls import own_call

FAMILIES = ("t5", "mt5", "bart", "mbart", "pegasus")
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


class Style(NamedTuple):
    """What a stack's layers have in common besides weights: constants of the compiled code."""

    heads: int
    scale: float
    """Factor of the attention scores."""
    root_mean_square_norm: bool
    norm_epsilon: float
    norm_first: bool
    activation: str
    gated: bool
    dropout: float
    attention_dropout: float
    activation_dropout: float


class Linear(NamedTuple):
    weight: Tensor
    bias: Tensor | None


class Norm(NamedTuple):
    weight: Tensor
    bias: Tensor | None


class Attention(NamedTuple):
    norm: Norm
    query: Linear
    key: Linear
    value: Linear
    output: Linear


class FeedForward(NamedTuple):
    norm: Norm
    inner: tuple[Linear, ...]
    """One projection; two where the first gates the second."""
    output: Linear


class Layer(NamedTuple):
    self_attention: Attention
    cross_attention: Attention | None
    feed_forward: FeedForward


class Stack(NamedTuple):
    """An encoder or a decoder."""

    style: Style
    tokens: Tensor
    token_scale: float
    positions: Tensor | None
    position_offset: int
    embedding_norm: Norm | None
    blocks: tuple[Any, ...]
    """transformers' modules of the layers, for `layer_of`."""
    final_norm: Norm | None
    final_dropout: float
    distance_table: Any | None
    """T5's module with the bias by bucket of distance, weight [buckets, H]: kept in the first block, used by all."""
    buckets: tuple[bool, int, int] | None
    """Arguments of T5's bucketing: bidirectional, number of buckets, distance from which all share one."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer_of(block) for block in self.blocks)


class Anatomy(NamedTuple):
    encoder: Stack
    decoder: Stack
    head: Linear
    head_scale: float


def packing_obstacle(model: Any) -> str | None:
    """Why a model cannot run packed, as the end of a sentence; None when it can."""
    config = model.config
    if config.model_type not in FAMILIES or not hasattr(model, "lm_head"):
        return f"{type(model).__name__} is none of {', '.join(FAMILIES)}"
    activation = config.dense_act_fn if config.model_type in ("t5", "mt5") else config.activation_function
    if activation not in ACTIVATIONS:
        return f"the activation {activation} is not known to the packed layers"
    if any(getattr(config, f"{stack}_layerdrop", 0) for stack in ("encoder", "decoder")):
        return "whole layers are dropped at random (layerdrop)"
    if any(hasattr(module, "base_layer") for module in model.modules()):
        return "an adapter replaces some of its layers"
    return None


def supports_packing(model: Any) -> bool:
    """Whether `PackedSeq2Seq` takes this model; if not, pad batches of like length and say `packing_obstacle`."""
    return packing_obstacle(model) is None


def start_token(config: Any) -> int | None:
    """The decoder's first input when training; None where each summary's own last token is (mBART's language code)."""
    return None if config.model_type == "mbart" else int(config.decoder_start_token_id)


def anatomy_of(model: Any) -> Anatomy:
    """The parts of a model that `supports_packing`."""
    if model.config.model_type in ("t5", "mt5"):
        return _t5(model)
    return _bart(model)


def _linear(module: Any) -> Linear:
    return Linear(module.weight, module.bias)


def _norm(module: Any) -> Norm:
    return Norm(module.weight, getattr(module, "bias", None))


def layer_of(block: Any) -> Layer:
    """The parameters of one encoder or decoder layer as they are now."""
    return _t5_layer(block) if hasattr(block, "layer") else _bart_layer(block)


def _t5_layer(block: Any) -> Layer:
    def attention(module: Any, part: Any) -> Attention:
        return Attention(_norm(module.layer_norm), *(_linear(getattr(part, name)) for name in "qkvo"))

    feed_forward = block.layer[-1]
    dense = feed_forward.DenseReluDense
    inner = (dense.wi_0, dense.wi_1) if hasattr(dense, "wi_0") else (dense.wi,)
    return Layer(
        attention(block.layer[0], block.layer[0].SelfAttention),
        attention(block.layer[1], block.layer[1].EncDecAttention) if len(block.layer) == 3 else None,
        FeedForward(_norm(feed_forward.layer_norm), tuple(_linear(part) for part in inner), _linear(dense.wo)),
    )


def _bart_layer(block: Any) -> Layer:
    def attention(module: Any, norm: Any) -> Attention:
        return Attention(_norm(norm), *(_linear(getattr(module, f"{name}_proj")) for name in ("q", "k", "v", "out")))

    cross = getattr(block, "encoder_attn", None)
    return Layer(
        attention(block.self_attn, block.self_attn_layer_norm),
        None if cross is None else attention(cross, block.encoder_attn_layer_norm),
        FeedForward(_norm(block.final_layer_norm), (_linear(block.fc1),), _linear(block.fc2)),
    )


def _t5(model: Any) -> Anatomy:
    config = model.config
    style = Style(
        heads=config.num_heads,
        scale=1.0,
        root_mean_square_norm=True,
        norm_epsilon=config.layer_norm_epsilon,
        norm_first=True,
        activation=ACTIVATIONS[config.dense_act_fn],
        gated=config.is_gated_act,
        dropout=config.dropout_rate,
        attention_dropout=config.dropout_rate,
        activation_dropout=config.dropout_rate,
    )

    def stack(module: Any, bidirectional: bool) -> Stack:
        return Stack(
            style=style,
            tokens=module.embed_tokens.weight,
            token_scale=1.0,
            positions=None,
            position_offset=0,
            embedding_norm=None,
            blocks=tuple(module.block),
            final_norm=_norm(module.final_layer_norm),
            final_dropout=config.dropout_rate,
            distance_table=module.block[0].layer[0].SelfAttention.relative_attention_bias,
            buckets=(bidirectional, config.relative_attention_num_buckets, config.relative_attention_max_distance),
        )

    # older versions of transformers scaled by whether the embeddings are tied
    scaled = getattr(config, "scale_decoder_outputs", config.tie_word_embeddings)
    scale = config.d_model**-0.5 if scaled else 1.0
    return Anatomy(stack(model.encoder, True), stack(model.decoder, False), Linear(model.lm_head.weight, None), scale)


def _bart(model: Any) -> Anatomy:
    config = model.config
    norm_first = config.model_type != "bart"

    def stack(module: Any, heads: int) -> Stack:
        style = Style(
            heads=heads,
            scale=(config.d_model // heads) ** -0.5,
            root_mean_square_norm=False,
            norm_epsilon=1e-5,
            norm_first=norm_first,
            activation=ACTIVATIONS[config.activation_function],
            gated=False,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            activation_dropout=config.activation_dropout,
        )
        embedding_norm, final_norm = getattr(module, "layernorm_embedding", None), getattr(module, "layer_norm", None)
        return Stack(
            style=style,
            tokens=module.embed_tokens.weight,
            token_scale=config.d_model**0.5 if config.scale_embedding else 1.0,
            positions=module.embed_positions.weight,
            position_offset=getattr(module.embed_positions, "offset", 0),
            embedding_norm=None if embedding_norm is None else _norm(embedding_norm),
            blocks=tuple(module.layers),
            final_norm=None if final_norm is None else _norm(final_norm),
            final_dropout=0.0,
            distance_table=None,
            buckets=None,
        )

    return Anatomy(
        stack(model.model.encoder, config.encoder_attention_heads),
        stack(model.model.decoder, config.decoder_attention_heads),
        Linear(model.lm_head.weight, model.final_logits_bias[0]),
        1.0,
    )


@lru_cache(maxsize=16)
def _bucket_numbers(bidirectional: bool, count: int, reach: int, device: torch.device) -> Tensor:
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-reach, reach + 1, device=device)
    return T5Attention._relative_position_bucket(distances, bidirectional, count, reach)


def distance_bias_vector(stack: Stack, device: torch.device) -> Tensor | None:
    """T5's bias as [H, 2R + 1] float32 by key position - query position in -R..R, beyond which it no longer changes."""
    if stack.distance_table is None or stack.buckets is None:
        return None
    table, numbers = stack.distance_table, _bucket_numbers(*stack.buckets, device)
    return own_call(table, lambda: table.weight.float()[numbers].t().contiguous())

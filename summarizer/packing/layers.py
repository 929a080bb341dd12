"""One encoder or decoder layer over packed rows: pure functions of tensors, compiled once for all layers of a stack.

Rows are [rows, d]. The residual stream has its own type; products are computed in `compute`, norms in float32 at least,
as transformers does under autocast.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from summarizer.packing.anatomy import Attention, FeedForward, Layer, Linear, Norm, Style
from summarizer.packing.attention import Bias, Spans, cross_attention, self_attention
from summarizer.packing.dropout import Masks, dropout

ATTENTION_SITE, SELF_SITE, CROSS_SITE, INNER_SITE, OUTER_SITE, CROSS_ATTENTION_SITE = range(6)
ENTRY_SITE, EXIT_SITE = range(2)  # of the row of seeds that belongs to no layer


class Numerics(NamedTuple):
    """Types and switches of a pass: constants of the compiled code."""

    compute: torch.dtype
    residual: torch.dtype
    training: bool
    backend: str


def linear(x: Tensor, *parts: Linear) -> Tensor:
    """[rows, sum of outputs]: several projections of the same rows as one product."""
    if len(parts) == 1:
        weight, bias = parts[0]
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
    weight = torch.cat([part.weight for part in parts]).to(x.dtype)
    biases = [part.bias for part in parts if part.bias is not None]
    return F.linear(x, weight, torch.cat(biases).to(x.dtype) if biases else None)


def normed(x: Tensor, norm: Norm, style: Style, dtype: torch.dtype) -> Tensor:
    wide = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if style.root_mean_square_norm:
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + style.norm_epsilon)
        return (wide * norm.weight).to(dtype)
    bias = None if norm.bias is None else norm.bias.to(wide.dtype)
    return F.layer_norm(wide, wide.shape[-1:], norm.weight.to(wide.dtype), bias, style.norm_epsilon).to(dtype)


def activated(x: Tensor, style: Style) -> Tensor:
    gate, rest = x.chunk(2, -1) if style.gated else (x, None)
    if style.activation == "relu":
        gate = F.relu(gate)
    elif style.activation == "silu":
        gate = F.silu(gate)
    else:
        gate = F.gelu(gate, approximate="tanh" if style.activation == "gelu_tanh" else "none")
    return gate if rest is None else gate * rest


def joined(x: Tensor, y: Tensor, norm: Norm, style: Style, numerics: Numerics) -> Tensor:
    """Add a sublayer's output to the residual stream, and normalize after where the family does."""
    x = x + y
    return x.to(numerics.residual) if style.norm_first else normed(x, norm, style, numerics.residual)


def entered(x: Tensor, norm: Norm, style: Style, numerics: Numerics) -> Tensor:
    """A sublayer's input, in the type of products."""
    return normed(x, norm, style, numerics.compute) if style.norm_first else x.to(numerics.compute)


def attend_within(
    x: Tensor,
    part: Attention,
    style: Style,
    numerics: Numerics,
    spans: Spans,
    bias: Bias | None,
    causal: bool,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    h = entered(x, part.norm, style, numerics)
    qkv = linear(h, part.query, part.key, part.value).view(x.shape[0], 3, style.heads, -1)
    attention_dropout = style.attention_dropout if numerics.training else 0.0
    mixed = self_attention(
        qkv,
        spans,
        bias,
        causal=causal,
        scale=style.scale,
        dropout=attention_dropout,
        seeds=seeds,
        masks=masks,
        site=ATTENTION_SITE,
        backend=numerics.backend,
    )
    y = linear(mixed.flatten(1), part.output)
    y = dropout(y, style.dropout if numerics.training else 0.0, seeds, SELF_SITE, masks)
    return joined(x, y, part.norm, style, numerics)


def attend_across(
    x: Tensor,
    memory: Tensor,
    part: Attention,
    style: Style,
    numerics: Numerics,
    spans: Spans,
    memory_spans: Spans,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    h = entered(x, part.norm, style, numerics)
    q = linear(h, part.query).view(x.shape[0], style.heads, -1)
    kv = linear(memory, part.key, part.value).view(memory.shape[0], 2, style.heads, -1)
    attention_dropout = style.attention_dropout if numerics.training else 0.0
    mixed = cross_attention(
        q,
        kv,
        spans,
        memory_spans,
        scale=style.scale,
        dropout=attention_dropout,
        seeds=seeds,
        masks=masks,
        site=CROSS_ATTENTION_SITE,
        backend=numerics.backend,
    )
    y = linear(mixed.flatten(1), part.output)
    y = dropout(y, style.dropout if numerics.training else 0.0, seeds, CROSS_SITE, masks)
    return joined(x, y, part.norm, style, numerics)


def feed_forward(
    x: Tensor, part: FeedForward, style: Style, numerics: Numerics, seeds: Tensor | None, masks: Masks | None
) -> Tensor:
    h = activated(linear(entered(x, part.norm, style, numerics), *part.inner), style)
    h = dropout(h, style.activation_dropout if numerics.training else 0.0, seeds, INNER_SITE, masks)
    y = dropout(linear(h, part.output), style.dropout if numerics.training else 0.0, seeds, OUTER_SITE, masks)
    return joined(x, y, part.norm, style, numerics)


def encoder_layer(
    layer: Layer,
    x: Tensor,
    style: Style,
    numerics: Numerics,
    spans: Spans,
    bias: Bias | None,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    x = attend_within(x, layer.self_attention, style, numerics, spans, bias, False, seeds, masks)
    return feed_forward(x, layer.feed_forward, style, numerics, seeds, masks)


def decoder_layer(
    layer: Layer,
    x: Tensor,
    memory: Tensor,
    style: Style,
    numerics: Numerics,
    spans: Spans,
    memory_spans: Spans,
    bias: Bias | None,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    assert layer.cross_attention is not None, "a decoder layer attends to the encoder"
    x = attend_within(x, layer.self_attention, style, numerics, spans, bias, True, seeds, masks)
    x = attend_across(x, memory, layer.cross_attention, style, numerics, spans, memory_spans, seeds, masks)
    return feed_forward(x, layer.feed_forward, style, numerics, seeds, masks)


def stack_entry(
    tokens: Tensor,
    scale: float,
    places: Tensor | None,
    norm: Norm | None,
    style: Style,
    numerics: Numerics,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    """Embeddings of tokens and places [rows, d] as the residual stream's start."""
    x = tokens if scale == 1.0 else tokens * scale
    x = x if places is None else x + places
    x = x if norm is None else normed(x, norm, style, x.dtype)
    return dropout(x.to(numerics.residual), style.dropout if numerics.training else 0.0, seeds, ENTRY_SITE, masks)


def stack_exit(
    x: Tensor,
    norm: Norm | None,
    share: float,
    style: Style,
    numerics: Numerics,
    seeds: Tensor | None,
    masks: Masks | None,
) -> Tensor:
    """The stack's output [rows, d] in the type of products."""
    x = x.to(numerics.compute) if norm is None else normed(x, norm, style, numerics.compute)
    return dropout(x, share if numerics.training else 0.0, seeds, EXIT_SITE, masks)

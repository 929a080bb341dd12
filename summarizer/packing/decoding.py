"""One token of a decoder for many beams at once: static caches, no reordering, each document's keys kept once.

Shapes: B documents (slots), K beams each, L tokens that fit the cache, M = B * K rows of a step.

transformers keeps keys and values once a beam and re-gathers them after every token. Here the cache is only written:
`ancestry[b, k, t]` names the beam that wrote token t of beam k's history, and attention masks by it. Keys and values of
the encoder's outputs lie packed and are read by all beams of a document together.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from summarizer.packing.anatomy import Anatomy, Attention, Layer, Linear, Norm, Style, distance_bias_vector
from summarizer.packing.attention import Spans, cross_attention, spans_of
from summarizer.packing.compiling import OrElse
from summarizer.packing.layers import Numerics, activated, entered, joined, linear, stack_entry, stack_exit


class StepLayer(NamedTuple):
    """A decoder layer's weights in the type of products, projections of the same input as one."""

    self_norm: Norm
    query_key_value: Linear
    self_output: Linear
    cross_norm: Norm
    cross_query: Linear
    cross_key_value: Linear
    cross_output: Linear
    inner_norm: Norm
    inner: Linear
    outer: Linear


def _fused(parts: tuple[Linear, ...], dtype: torch.dtype) -> Linear:
    biases = [part.bias for part in parts if part.bias is not None]
    weight = torch.cat([part.weight for part in parts]).to(dtype)
    return Linear(weight, torch.cat(biases).to(dtype) if biases else None)


def _prepared(layer: Layer, dtype: torch.dtype) -> StepLayer:
    own, cross, inner = layer.self_attention, layer.cross_attention, layer.feed_forward
    assert isinstance(cross, Attention), "a decoder layer attends to the encoder"
    return StepLayer(
        own.norm,
        _fused((own.query, own.key, own.value), dtype),
        _fused((own.output,), dtype),
        cross.norm,
        _fused((cross.query,), dtype),
        _fused((cross.key, cross.value), dtype),
        _fused((cross.output,), dtype),
        inner.norm,
        _fused(inner.inner, dtype),
        _fused((inner.output,), dtype),
    )


def before_cache(x: Tensor, layer: StepLayer, style: Style, numerics: Numerics) -> Tensor:
    """[M, 3 * H * D]: queries, keys and values of this token."""
    return linear(entered(x, layer.self_norm, style, numerics), layer.query_key_value)


def through_cache(
    query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, position: Tensor, mask: Tensor, heads: int,
    scale: float | None,
) -> Tensor:  # fmt: skip
    """[M, H * D]: write this token's keys and values, attend to the beam's own past.

    Stays outside of compiled code, which would copy the caches to write to them, and be compiled anew for each extent.

    Args:
        query, key, value: [M, H * D], of this token.
        keys, values: [B, L, K, H * D] caches of one layer.
        position: [1] int64 tokens before this one.
        mask: [B, H or 1, K, extent * K] added to the scores; extent <= L.
    """
    documents, _, beams, width = keys.shape
    keys.index_copy_(1, position, key.reshape(documents, 1, beams, width))
    values.index_copy_(1, position, value.reshape(documents, 1, beams, width))
    shape = documents, mask.shape[-1], heads, width // heads
    past_keys, past_values = (
        cache[:, : mask.shape[-1] // beams].reshape(shape).transpose(1, 2) for cache in (keys, values)
    )
    query = query.reshape(documents, beams, heads, -1).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(query, past_keys, past_values, mask, scale=scale)
    return mixed.transpose(1, 2).reshape(documents * beams, width)


def after_cache(
    x: Tensor, mixed: Tensor, layer: StepLayer, style: Style, numerics: Numerics, memory: Tensor, spans: Spans,
    memory_spans: Spans,
) -> Tensor:  # fmt: skip
    """[M, d] residual stream after the layer.

    Args:
        memory: [S, 2, H, D] keys and values of the encoder's outputs.
    """
    x = joined(x, linear(mixed, layer.self_output), layer.self_norm, style, numerics)
    q = linear(entered(x, layer.cross_norm, style, numerics), layer.cross_query).view(x.shape[0], style.heads, -1)
    mixed = cross_attention(
        q, memory, spans, memory_spans, scale=style.scale, dropout=0.0, seeds=None, masks=None, site=0,
        backend=numerics.backend,
    )  # fmt: skip
    x = joined(x, linear(mixed.flatten(1), layer.cross_output), layer.cross_norm, style, numerics)
    h = activated(linear(entered(x, layer.inner_norm, style, numerics), layer.inner), style)
    return joined(x, linear(h, layer.outer), layer.inner_norm, style, numerics)


class Weights(NamedTuple):
    """A decoder ready for steps: copies in the type of products, made once a search."""

    anatomy: Anatomy
    layers: tuple[StepLayer, ...]
    head: Linear
    distance_bias: Tensor | None
    """[H, L]: T5's bias by tokens back, 0 first."""


def step_weights(anatomy: Anatomy, numerics: Numerics, tokens: int) -> Weights:
    """Prepare for at most `tokens` tokens."""
    bias = distance_bias_vector(anatomy.decoder, anatomy.head.weight.device)
    if bias is not None:
        reach = (bias.shape[1] - 1) // 2
        back = torch.arange(tokens, device=bias.device).clamp(max=reach)
        bias = bias[:, reach - back].contiguous()
    layers = tuple(_prepared(layer, numerics.compute) for layer in anatomy.decoder.layers)
    return Weights(anatomy, layers, _fused((anatomy.head,), numerics.compute), bias)


class History:
    """What the beams of each document have written, as a decoder's layers see it: everything keeps its size and place."""

    def __init__(
        self, layers: int, documents: int, beams: int, tokens: int, width: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:  # fmt: skip
        shape = (documents, tokens, beams, width)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.ancestry = torch.zeros(documents, beams, tokens, device=device, dtype=torch.int64)
        self.position = torch.zeros(1, device=device, dtype=torch.int64)
        """Tokens before the one that is next."""
        self.documents, self.beams, self.tokens = documents, beams, tokens

    def reset(self) -> None:
        self.position.zero_()
        self.ancestry.zero_()

    def seen(self, extent: int) -> Tensor:
        """[B, 1, K, extent * K]: which of the first `extent` cached tokens each beam has behind it, this one included."""
        device, beams = self.position.device, self.beams
        writers = torch.arange(beams, device=device)
        self.ancestry.index_copy_(2, self.position, writers.view(1, beams, 1).expand(self.documents, -1, 1))
        at = torch.arange(extent, device=device)
        seen = (self.ancestry[:, :, :extent, None] == writers) & (at <= self.position)[:, None]
        return seen.view(self.documents, 1, beams, extent * beams)

    def advance(self, parents: Tensor) -> None:
        """Go on to the next token, with the beam [B, K] that each one continues."""
        if self.beams > 1:
            self.ancestry.copy_(self.ancestry.gather(1, parents[:, :, None].expand(-1, -1, self.tokens)))
        self.position.add_(1)

    def take_over(self, other: Self, kept: list[int]) -> None:
        """Continue the documents `kept` of a larger history in the slots of this one; further slots repeat the last."""
        rows = torch.tensor(filled(kept, self.documents), device=self.position.device)
        for mine, theirs in zip(self.keys + self.values, other.keys + other.values, strict=True):
            mine.copy_(theirs[rows])
        self.ancestry.copy_(other.ancestry[rows])
        self.position.copy_(other.position)


def filled(kept: list[int], slots: int) -> list[int]:
    return kept + [kept[-1]] * (slots - len(kept))


class Cache(History):
    """With the encoder's outputs of packed documents."""

    def __init__(
        self, weights: Weights, documents: int, beams: int, tokens: int, memory_rows: int, numerics: Numerics
    ) -> None:
        device, style, dtype = weights.head.weight.device, weights.anatomy.decoder.style, numerics.compute
        width = weights.layers[0].query_key_value.weight.shape[0] // 3
        super().__init__(len(weights.layers), documents, beams, tokens, width, dtype=dtype, device=device)
        split = (memory_rows, 2, style.heads, width // style.heads)
        self.memory = [torch.zeros(split, device=device, dtype=dtype) for _ in weights.layers]
        self.memory_offsets = torch.zeros(documents + 1, device=device, dtype=torch.int32)
        offsets = torch.arange(documents + 1, device=device, dtype=torch.int32) * beams
        self.spans = spans_of(offsets, beams, documents * beams, numerics.backend)

    def remember(self, weights: Weights, encoded: Tensor, offsets: Tensor) -> None:
        """Take the encoder's outputs [S, d], document i being offsets[i]:offsets[i + 1], for the documents to come."""
        for layer, memory in zip(weights.layers, self.memory, strict=True):
            memory[: encoded.shape[0]] = linear(encoded, layer.cross_key_value).view(-1, *memory.shape[1:])
        self.memory_offsets.copy_(offsets)

    def take_over(self, other: Self, kept: list[int]) -> None:
        super().take_over(other, kept)
        kept = filled(kept, self.documents)
        ends = other.memory_offsets.tolist()
        source = torch.cat([torch.arange(ends[i], ends[i + 1]) for i in kept]).to(self.position.device)
        lengths = torch.tensor([ends[i + 1] - ends[i] for i in kept])
        self.memory_offsets[1:] = lengths.cumsum(0).to(self.memory_offsets)
        for mine, theirs in zip(self.memory, other.memory, strict=True):
            mine[: len(source)] = theirs[source]


class Step:
    """The functions that a step runs, compiled or not."""

    def __init__(self, compiled: bool) -> None:
        self.before_cache, self.after_cache = OrElse(before_cache, compiled), OrElse(after_cache, compiled)
        self.entry, self.exit = OrElse(stack_entry, compiled), OrElse(stack_exit, compiled)

    def logits(
        self, weights: Weights, numerics: Numerics, cache: Cache, ids: Tensor, extent: int, longest_source: int
    ) -> Tensor:
        """[M, V] float32 of the next token, given the last one of every beam.

        Args:
            ids: [B, K].
            extent: tokens of the cache that are looked at; more than `cache.position`.
        """
        stack = weights.anatomy.decoder
        mask = self._mask(weights, cache, extent).to(numerics.compute)
        tokens = F.embedding(ids.view(-1), stack.tokens)
        places = None
        if stack.positions is not None:
            places = F.embedding(cache.position + stack.position_offset, stack.positions)
        x = self.entry(tokens, stack.token_scale, places, stack.embedding_norm, stack.style, numerics, None, None)
        spans, memory_spans = cache.spans, Spans(cache.memory_offsets, longest_source)
        for i, layer in enumerate(weights.layers):
            qkv = self.before_cache(x, layer, stack.style, numerics)
            query, key, value = qkv.chunk(3, -1)
            past = cache.keys[i], cache.values[i], cache.position
            mixed = through_cache(query, key, value, *past, mask, stack.style.heads, stack.style.scale)
            x = self.after_cache(x, mixed, layer, stack.style, numerics, cache.memory[i], spans, memory_spans)
        x = self.exit(x, stack.final_norm, 0.0, stack.style, numerics, None, None)
        x = x if weights.anatomy.head_scale == 1.0 else x * weights.anatomy.head_scale
        return linear(x, weights.head).float()

    @staticmethod
    def _mask(weights: Weights, cache: Cache, extent: int) -> Tensor:
        """[B, H or 1, K, extent * K] to add to the scores: T5's bias, and minus infinity where another beam wrote."""
        seen = cache.seen(extent)
        bias = torch.zeros((), device=seen.device)
        if weights.distance_bias is not None:
            back = (cache.position - torch.arange(extent, device=seen.device)).clamp(min=0)
            bias = weights.distance_bias[:, back].repeat_interleave(cache.beams, 1)[None, :, None, :]
        return torch.where(seen, bias, float("-inf"))

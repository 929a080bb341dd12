"""Encoder and decoder layers: pre-norm (Xiong et al. 2020, arXiv 2002.04745), rotary positions, squared ReLU.

Shapes: B documents (or beams), S source tokens, T target tokens, D = `d_model`, H heads of D / H units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_copy_transformer import CopyTransformerConfig

ROTARY_BASE = 10_000.0
SHORT = 512
"""Keys up to which a processor forms all scores at once: PyTorch's blockwise attention is made for longer ones. Of a batch of
32 x 96 tokens, forward and backward took 0.4 (bfloat16) and 0.7 (float32) of its time on two cores of an AMD EPYC 9005."""
HIDDEN = -1e30


def rotary_angles(length: int, head_size: int, like: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, 1, 1, head_size] for positions from `start` on (Su et al. 2021, arXiv 2104.09864), as
    `rotate` takes them: for both halves of a head's units, the first sines negative.

    Computed, not stored: a buffer that is not saved stays empty when `from_pretrained` builds on the meta device.
    """
    half = head_size // 2
    rates = ROTARY_BASE ** (-torch.arange(half, device=like.device, dtype=torch.float32) / half)
    angles = torch.arange(start, start + length, device=like.device, dtype=torch.float32)[:, None] * rates
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1)[:, None, None], torch.cat((-sin, sin), dim=-1)[:, None, None]


class _Rotated(torch.autograd.Function):
    """One product and one sum for all units; the gradient is turned back, by the same operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of units of queries and keys [B, L, 2, H, D / H] by its position's angle."""
    cos, sin = (angle.to(x.dtype) for angle in angles)
    return _Rotated.apply(x, cos, sin)


class _SquaredReLU(torch.autograd.Function):
    """Keeps one tensor, from which the gradient is two products."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = F.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        return (gradients[0] * positive).mul_(2)


def squared_relu(x: Tensor) -> Tensor:
    return _SquaredReLU.apply(x)


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention of queries [B, H, T, D / H] to S keys and values; returns [B, H, T, D / H].

    Args:
        mask: true where attention may look, [B, 1, 1, S] or [T, S].
        causal: each query looks at the keys up to its own, where T = S and there is no mask.
    """
    length, size = query.shape[-2], key.shape[-2]
    if not query.is_cpu or size > SHORT:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
    if causal:
        mask = torch.ones(length, size, dtype=torch.bool).tril()
    bias = query.new_zeros(1, 1, size)
    if mask is not None:
        bias = torch.zeros(mask.shape, dtype=query.dtype).masked_fill(~mask, HIDDEN)
        bias = bias.expand(*query.shape[:2], -1, -1).flatten(0, 1)
    scores = torch.baddbmm(
        bias.expand(-1, length, -1),
        query.flatten(0, 1),
        key.flatten(0, 1).transpose(1, 2),
        alpha=query.shape[-1] ** -0.5,
    )
    return torch.bmm(scores.softmax(dim=-1), value.flatten(0, 1)).view_as(query)


class FeedForward(nn.Module):
    """Two linear layers with a squared ReLU between them (So et al. 2021, arXiv 2109.08668)."""

    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.widen = nn.Linear(config.d_model, config.d_ff)
        self.output = nn.Linear(config.d_ff, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(squared_relu(self.widen(self.norm(x))))


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself; one matrix product for queries, keys and values."""

    def __init__(self, config: CopyTransformerConfig, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = config.num_heads, layer
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)

    def forward(
        self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None, *, causal: bool = False, cache: Any = None
    ) -> Tensor:
        batch, length, width = x.shape
        turned, value = self.qkv(x).view(batch, length, 3, self.heads, -1).split((2, 1), dim=2)
        query, key = rotate(turned, angles).permute(2, 0, 3, 1, 4)
        value = value.squeeze(2).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
        mixed = attend(query, key, value, mask, causal=causal and length > 1)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


class CrossAttention(nn.Module):
    """Multi-head attention of the summary to the document."""

    def __init__(self, config: CopyTransformerConfig, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = config.num_heads, layer
        self.query = nn.Linear(config.d_model, config.d_model)
        self.key_value = nn.Linear(config.d_model, 2 * config.d_model)
        self.output = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        batch, length, width = x.shape
        query = self.query(x).view(batch, length, self.heads, -1).transpose(1, 2)
        if cache is not None and cache.is_updated.get(self.layer):
            stored = cache.cross_attention_cache.layers[self.layer]
            key, value = stored.keys, stored.values
        else:
            key, value = self.key_value(source).view(batch, source.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
            if cache is not None:
                key, value = cache.cross_attention_cache.update(key, value, self.layer)
                cache.is_updated[self.layer] = True
        mixed = attend(query, key, value, mask)
        return self.output(mixed.transpose(1, 2).reshape(batch, length, width))


class NeighborMix(nn.Module):
    """Each position plus learned shares of its two neighbors, unit by unit: a depthwise convolution of width 3.

    It shows attention pairs of neighboring tokens from the first step on (So et al. 2021, arXiv 2109.08668).
    """

    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.zeros(2, config.d_model))

    def forward(self, x: Tensor, keep: Tensor) -> Tensor:
        """x: [B, S, D]; keep: [B, S, 1], 0 where padded, so that padding does not leak into the last token."""
        x = x * keep
        before, after = F.pad(x, (0, 0, 1, -1)), F.pad(x, (0, 0, -1, 1))
        return torch.addcmul(torch.addcmul(x, before, self.shares[0]), after, self.shares[1])


class CopyTransformerEncoderLayer(nn.Module):
    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.mix = NeighborMix(config)
        self.attention = SelfAttention(config, layer=0)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], keep: Tensor, mask: Tensor) -> Tensor:
        """x: [B, S, D]; keep: [B, S, 1]; mask: [B, 1, 1, S], true where attention may look."""
        x = x + self.dropout(self.attention(self.mix(self.norm(x), keep), angles, mask))
        return x + self.dropout(self.feed_forward(x))


class CopyTransformerDecoderLayer(nn.Module):
    def __init__(self, config: CopyTransformerConfig, layer: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm = nn.LayerNorm(config.d_model), nn.LayerNorm(config.d_model)
        self.self_attention = SelfAttention(config, layer)
        self.cross_attention = CrossAttention(config, layer)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        source: Tensor,
        source_mask: Tensor,
        cache: Any = None,
    ) -> Tensor:
        """x: [B, T, D]; mask: [T, T so far] or None for plain causal; source: [B, S, D]; source_mask: [B, 1, 1, S]."""
        own = cache.self_attention_cache if cache is not None else None
        attended = self.self_attention(self.self_norm(x), angles, mask, causal=mask is None, cache=own)
        x = x + self.dropout(attended)
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), source, source_mask, cache))
        return x + self.dropout(self.feed_forward(x))

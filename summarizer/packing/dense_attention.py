"""Attention document by document through PyTorch's own kernel: any device and head width; the others' reference."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    bias: Tensor | None = None,
    *,
    causal: bool,
    scale: float,
    dropout: float = 0.0,
) -> Tensor:
    """Attention of every query to the keys of its own document.

    Args:
        query: [Tq, H, D]; key, value: [Tk, G, D] where G divides H (grouped heads).
        query_offsets, key_offsets: [N + 1] first rows of the documents; pairs belong together.
        bias: [H, 2R + 1] added to the scores by key position - query position, clamped to R on either side.

    Returns:
        [Tq, H, D]; zero where a document has no keys.

    Reads the offsets on the host, which waits for a device that holds them.
    """
    starts, ends = query_offsets.tolist(), key_offsets.tolist()
    parts = []
    for i in range(len(starts) - 1):
        rows, columns = slice(starts[i], starts[i + 1]), slice(ends[i], ends[i + 1])
        count, seen = rows.stop - rows.start, columns.stop - columns.start
        if count == 0:
            continue
        if seen == 0:
            parts.append(torch.zeros_like(query[rows]))
            continue
        mask = None if bias is None else distance_bias(bias, count, seen).to(query.dtype)
        if causal and mask is not None:
            mask = mask.masked_fill(
                torch.ones(count, seen, dtype=torch.bool, device=mask.device).triu(1), float("-inf")
            )
        q, k, v = (x.transpose(0, 1)[None] for x in (query[rows], key[columns], value[columns]))
        out = F.scaled_dot_product_attention(
            q,
            k,
            v,
            mask,
            dropout_p=dropout,
            is_causal=causal and mask is None,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )
        parts.append(out[0].transpose(0, 1))
    rest = query.shape[0] - starts[-1]
    if rest:
        parts.append(torch.zeros_like(query[starts[-1] :]))
    return torch.cat(parts)


def distance_bias(bias: Tensor, queries: int, keys: int) -> Tensor:
    """[H, queries, keys] out of [H, 2R + 1]."""
    return _DistanceBias.apply(bias, queries, keys)


class _DistanceBias(torch.autograd.Function):
    """Each row of a document's bias is the row above moved by one: copied as such, and summed back along diagonals.

    Indexing would do, but its gradient adds every score by itself, which took most of a step on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, bias: Tensor, queries: int, keys: int) -> Tensor:
        reach = (bias.shape[1] - 1) // 2
        ctx.reach = reach
        distances = torch.arange(-(queries - 1), keys, device=bias.device).clamp(-reach, reach) + reach
        line = bias[:, distances].contiguous()
        heads, width = line.shape
        return line.as_strided((heads, queries, keys), (width, 1, 1)).flip(1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = outputs
        return diagonal_sums(gradient, ctx.reach), None, None


def diagonal_sums(scores: Tensor, reach: int) -> Tensor:
    """[H, 2R + 1] sums of [H, queries, keys] by distance, clamped to R."""
    heads, queries, keys = scores.shape
    # flipped and padded, the flattened rows can be cut one shorter: each starts one further right
    padded = F.pad(scores.flip(1), (0, queries)).reshape(heads, -1)[:, : queries * (keys + queries - 1)]
    sums = padded.reshape(heads, queries, keys + queries - 1).sum(1)
    distances = torch.arange(-(queries - 1), keys, device=scores.device).clamp(-reach, reach) + reach
    return scores.new_zeros(heads, 2 * reach + 1).index_add_(1, distances, sums)


def dense_attention_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_offsets: Tensor,
    key_offsets: Tensor,
    bias: Tensor | None = None,
    *,
    causal: bool,
    scale: float,
) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None]:
    """Gradients of query, key and value, and of the bias, written out: inside an operator autograd is not at hand.

    Args: as `dense_attention`, without dropout; gradient: [Tq, H, D].
    """
    dq, dk, dv = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
    bias_gradient = None if bias is None else torch.zeros_like(bias)
    starts, ends = query_offsets.tolist(), key_offsets.tolist()
    for i in range(len(starts) - 1):
        rows, columns = slice(starts[i], starts[i + 1]), slice(ends[i], ends[i + 1])
        count, seen = rows.stop - rows.start, columns.stop - columns.start
        if count == 0 or seen == 0:
            continue
        wide = torch.promote_types(query.dtype, torch.float32)
        q, k, v, g = (x.to(wide) for x in (query[rows], key[columns], value[columns], gradient[rows]))
        scores = torch.einsum("qhd,khd->hqk", q, k) * scale
        if bias is not None:
            scores = scores + distance_bias(bias, count, seen)
        if causal:
            ahead = torch.ones(count, seen, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(ahead, float("-inf"))
        shares = scores.softmax(-1)
        dp = torch.einsum("qhd,khd->hqk", g, v)
        ds = shares * (dp - (dp * shares).sum(-1, keepdim=True))
        dv[columns] = torch.einsum("hqk,qhd->khd", shares, g).to(v.dtype)
        dq[rows] = (torch.einsum("hqk,khd->qhd", ds, k) * scale).to(q.dtype)
        dk[columns] = (torch.einsum("hqk,qhd->khd", ds, q) * scale).to(k.dtype)
        if bias_gradient is not None:
            bias_gradient += diagonal_sums(ds, (bias_gradient.shape[1] - 1) // 2).to(bias_gradient.dtype)
    return (dq, dk, dv), bias_gradient

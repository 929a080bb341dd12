"""The Triton attention as two operators of PyTorch, with gradients, that torch.compile treats as one node each.

On a CPU the operators compute document by document and recompute in the backward pass: slow, but it lets compiled
graphs, gradients and meta shapes be tested where there is no GPU.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch
from torch import Tensor

from summarizer.packing.dense_attention import dense_attention, dense_attention_gradients

BLOCK = 64  # rows and columns of a tile; 128 was slower on an H100


def row_blocks(offsets: Tensor, rows: int, block: int = BLOCK) -> Tensor:
    """[B, 2] int32: (document, first row in it) of every block of rows, those of the longest documents first.

    B depends on the number of rows and documents alone, so that recorded steps keep their shapes; what is left over has
    document -1. Nothing waits for the device.

    Args:
        offsets: [N + 1] first rows of the documents.
        rows: the last of them, at most.
    """
    lengths = offsets.diff()
    order = lengths.argsort(descending=True)
    counts = (lengths[order] + block - 1) // block
    ends = counts.cumsum(0)
    number = torch.arange(rows // block + len(lengths), device=offsets.device)
    place = torch.searchsorted(ends, number, right=True)
    document = place.clamp(max=len(lengths) - 1)
    first = (number - (ends - counts)[document]) * block
    return torch.stack([torch.where(place < len(lengths), order[document], -1), first], 1).to(torch.int32)


def near_tiles(reach: int, block: int = BLOCK) -> int:
    """K: a tile K or more blocks from the diagonal has one bias, because all its distances exceed the reach."""
    return math.ceil((reach + block - 1) / block)


def bias_tiles(vector: Tensor, block: int = BLOCK) -> Tensor:
    """[H, 2K - 1, block, block] times log2(e): the bias of each near tile, by blocks from the diagonal -(K-1)..K-1."""
    reach = (vector.shape[1] - 1) // 2
    count = near_tiles(reach, block)
    within = torch.arange(block, device=vector.device)
    from_diagonal = torch.arange(-(count - 1), count, device=vector.device) * block
    distance = from_diagonal[:, None, None] + within[None, None, :] - within[None, :, None]
    return (vector.float() * math.log2(math.e))[:, distance.clamp(-reach, reach) + reach].contiguous()


def _on_triton(x: Tensor) -> bool:
    return x.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"


def _forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None, q_offsets: Tensor, k_offsets: Tensor,
    q_blocks: Tensor, causal: bool, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None,
    site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if _on_triton(q):
        from summarizer.packing import triton_attention

        return triton_attention.forward(
            q, k, v, bias, tiles, q_offsets, k_offsets, q_blocks, causal, scale, dropout, seeds, numbers, site
        )
    assert dropout == 0.0, "hashed dropout is computed by the Triton kernels only"
    out = dense_attention(q, k, v, q_offsets, k_offsets, bias, causal=causal, scale=scale)
    return out.contiguous(), q.new_zeros(q.shape[1], q.shape[0], dtype=torch.float32)


def _backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None,
    transposed: Tensor | None, out: Tensor, lse: Tensor, q_offsets: Tensor, k_offsets: Tensor, q_blocks: Tensor,
    k_blocks: Tensor, causal: bool, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None,
    site: int, dq: Tensor, dk: Tensor, dv: Tensor,
) -> Tensor:  # fmt: skip
    """Write dq, dk and dv; return the bias's gradient, empty without a bias."""
    if _on_triton(q):
        from summarizer.packing import triton_attention

        return triton_attention.backward(
            gradient, q, k, v, bias, tiles, transposed, out, lse, q_offsets, k_offsets, q_blocks, k_blocks, causal,
            scale, dropout, seeds, numbers, site, dq, dk, dv,
        )  # fmt: skip
    found, bias_gradient = dense_attention_gradients(
        gradient, q, k, v, q_offsets, k_offsets, bias, causal=causal, scale=scale
    )
    for target, value in zip((dq, dk, dv), found, strict=True):
        target.copy_(value)
    return lse.new_empty(0) if bias_gradient is None else bias_gradient


@torch.library.custom_op("summarizer::packed_self_attention", mutates_args=())
def self_attention(
    qkv: Tensor, bias: Tensor | None, tiles: Tensor | None, transposed: Tensor | None, offsets: Tensor, blocks: Tensor,
    causal: bool, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None, site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Out [rows, H, D] and the log2-sum-exp of the scores [H, rows], of qkv [rows, 3, H, D]."""
    q, k, v = qkv.unbind(1)
    return _forward(q, k, v, bias, tiles, offsets, offsets, blocks, causal, scale, dropout, seeds, numbers, site)


@self_attention.register_fake
def _(qkv, bias, tiles, transposed, offsets, blocks, causal, scale, dropout, seeds, numbers, site):  # type: ignore[no-untyped-def]
    rows, _, heads, width = qkv.shape
    return qkv.new_empty(rows, heads, width), qkv.new_empty(heads, rows, dtype=torch.float32)


@torch.library.custom_op("summarizer::packed_self_attention_backward", mutates_args=())
def self_attention_backward(
    gradient: Tensor, qkv: Tensor, bias: Tensor | None, tiles: Tensor | None, transposed: Tensor | None, out: Tensor,
    lse: Tensor, offsets: Tensor, blocks: Tensor, causal: bool, scale: float, dropout: float, seeds: Tensor | None,
    numbers: Tensor | None, site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    # one tensor for the three, as the projection wants it: unbind's own gradient would copy them together
    d = torch.empty(qkv.shape, device=qkv.device, dtype=qkv.dtype)
    q, k, v = qkv.unbind(1)
    dq, dk, dv = d.unbind(1)
    bias_gradient = _backward(
        gradient, q, k, v, bias, tiles, transposed, out, lse, offsets, offsets, blocks, blocks, causal, scale, dropout,
        seeds, numbers, site, dq, dk, dv,
    )  # fmt: skip
    return d, bias_gradient


@self_attention_backward.register_fake
def _(gradient, qkv, bias, tiles, transposed, out, lse, offsets, blocks, causal, scale, dropout, seeds, numbers, site):  # type: ignore[no-untyped-def]
    return qkv.new_empty(qkv.shape), lse.new_empty(0) if bias is None else bias.new_empty(bias.shape)


def _save_self(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    qkv, bias, tiles, transposed, offsets, blocks, causal, scale, dropout, seeds, numbers, site = inputs
    ctx.save_for_backward(qkv, bias, tiles, transposed, *output, offsets, blocks, seeds, numbers)
    ctx.constants = causal, scale, dropout, site


def _self_gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    qkv, bias, tiles, transposed, out, lse, offsets, blocks, seeds, numbers = ctx.saved_tensors
    causal, scale, dropout, site = ctx.constants
    d, bias_gradient = self_attention_backward(
        gradient, qkv, bias, tiles, transposed, out, lse, offsets, blocks, causal, scale, dropout, seeds, numbers, site
    )
    return d, None if bias is None else bias_gradient, *[None] * 10


self_attention.register_autograd(_self_gradient, setup_context=_save_self)


@torch.library.custom_op("summarizer::packed_cross_attention", mutates_args=())
def cross_attention(
    q: Tensor, kv: Tensor, q_offsets: Tensor, k_offsets: Tensor, q_blocks: Tensor, k_blocks: Tensor | None,
    scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None, site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Out [query rows, H, D] and log2-sum-exp [H, query rows], of q [query rows, H, D] and kv [key rows, 2, H, D]."""
    k, v = kv.unbind(1)
    return _forward(q, k, v, None, None, q_offsets, k_offsets, q_blocks, False, scale, dropout, seeds, numbers, site)


@cross_attention.register_fake
def _(q, kv, q_offsets, k_offsets, q_blocks, k_blocks, scale, dropout, seeds, numbers, site):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape), q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)


@torch.library.custom_op("summarizer::packed_cross_attention_backward", mutates_args=())
def cross_attention_backward(
    gradient: Tensor, q: Tensor, kv: Tensor, out: Tensor, lse: Tensor, q_offsets: Tensor, k_offsets: Tensor,
    q_blocks: Tensor, k_blocks: Tensor, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None,
    site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    dq = torch.empty(q.shape, device=q.device, dtype=q.dtype)
    dkv = torch.empty(kv.shape, device=kv.device, dtype=kv.dtype)
    k, v = kv.unbind(1)
    dk, dv = dkv.unbind(1)
    _backward(
        gradient, q, k, v, None, None, None, out, lse, q_offsets, k_offsets, q_blocks, k_blocks, False, scale, dropout,
        seeds, numbers, site, dq, dk, dv,
    )  # fmt: skip
    return dq, dkv


@cross_attention_backward.register_fake
def _(gradient, q, kv, out, lse, q_offsets, k_offsets, q_blocks, k_blocks, scale, dropout, seeds, numbers, site):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape), kv.new_empty(kv.shape)


def _save_cross(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, kv, q_offsets, k_offsets, q_blocks, k_blocks, scale, dropout, seeds, numbers, site = inputs
    ctx.save_for_backward(q, kv, *output, q_offsets, k_offsets, q_blocks, k_blocks, seeds, numbers)
    ctx.constants = scale, dropout, site


def _cross_gradient(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    q, kv, out, lse, q_offsets, k_offsets, q_blocks, k_blocks, seeds, numbers = ctx.saved_tensors
    scale, dropout, site = ctx.constants
    dq, dkv = cross_attention_backward(
        gradient, q, kv, out, lse, q_offsets, k_offsets, q_blocks, k_blocks, scale, dropout, seeds, numbers, site
    )
    return dq, dkv, *[None] * 9


cross_attention.register_autograd(_cross_gradient, setup_context=_save_cross)

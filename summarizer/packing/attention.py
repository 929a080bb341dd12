"""Attention that stays within a document, over packed rows; which kernel does it, and what each can.

| back end | where | T5's bias | dropout | needs |
| --- | --- | --- | --- | --- |
| triton | CUDA | yes | hashed | Triton, head width 16 to 128 and a power of two |
| flash | CUDA | no | PyTorch's | bfloat16 or float16; FlashAttention-2 as built into PyTorch |
| dense | anywhere | yes | PyTorch's | nothing; reads offsets on the host, a kernel a document |
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

import torch
from torch import Tensor

from summarizer.packing import attention_ops
from summarizer.packing.dense_attention import dense_attention
from summarizer.packing.dropout import Masks

BACKENDS = ("triton", "flash", "dense")


class Spans(NamedTuple):
    """Where documents lie in packed rows."""

    offsets: Tensor
    """[N + 1] int32: document i has the rows offsets[i]:offsets[i + 1]."""
    longest: int
    """Rows that no document exceeds: a constant of the run, not a property of the pack."""
    blocks: Tensor | None = None
    """[B, 2] int32 of `attention_ops.row_blocks`; for the triton back end only."""


def spans_of(offsets: Tensor, longest: int, rows: int, backend: str) -> Spans:
    """Spans with what the back end wants of them, made once a pass for all layers."""
    return Spans(offsets, longest, attention_ops.row_blocks(offsets, rows) if backend == "triton" else None)


class Bias(NamedTuple):
    """T5's bias by distance, and the same in the form that tiles of the kernels load."""

    vector: Tensor
    """[H, 2R + 1] float32."""
    tiles: Tensor | None
    """[H, 2K - 1, BLOCK, BLOCK] float32 times log2(e), by query row and key column; for the triton back end only."""
    transposed_tiles: Tensor | None


def bias_for(vector: Tensor | None, backend: str) -> Bias | None:
    if vector is None:
        return None
    if backend != "triton":
        return Bias(vector, None, None)
    tiles = attention_ops.bias_tiles(vector.detach())
    return Bias(vector, tiles, tiles.transpose(-1, -2).contiguous())


def backend_obstacle(
    backend: str, device: torch.device, head_width: int, dtype: torch.dtype, biased: bool
) -> str | None:
    """Why a back end cannot serve, as the end of a sentence; None when it can."""
    if backend == "dense":
        return None
    if device.type != "cuda":
        return f"{backend} attention needs a CUDA device, not {device.type}"
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "triton is not installed"
        if head_width not in (16, 32, 64, 128):
            return f"heads of width {head_width} have no Triton kernel"
        if torch.cuda.get_device_capability(device) < (8, 0):
            return "the Triton kernels need compute capability 8.0 (Ampere) or newer"
        return None
    if biased:
        return "flash attention takes no relative position bias"
    if dtype not in (torch.bfloat16, torch.float16):
        return f"flash attention does not compute in {dtype}"
    return None


def choose_backend(device: torch.device, head_width: int, dtype: torch.dtype, biased: bool) -> tuple[str, str | None]:
    """The fastest back end that serves, and why a faster one does not (None where none is faster)."""
    if device.type != "cuda":
        return "dense", None
    first = None
    for backend in BACKENDS:
        obstacle = backend_obstacle(backend, device, head_width, dtype, biased)
        if obstacle is None:
            return backend, first
        first = first or obstacle
    raise AssertionError("dense attention always serves")


def flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    queries: Spans,
    keys: Spans,
    *,
    causal: bool,
    scale: float,
    dropout: float,
) -> Tensor:
    # torch.nn.attention.varlen calls the same operator, but has no dropout
    return torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        queries.offsets,
        keys.offsets,
        queries.longest,
        keys.longest,
        dropout,
        causal,
        False,
        scale=scale,
    )[0]


def self_attention(
    qkv: Tensor,
    spans: Spans,
    bias: Bias | None,
    *,
    causal: bool,
    scale: float,
    dropout: float,
    seeds: Tensor | None,
    masks: Masks | None,
    site: int,
    backend: str,
) -> Tensor:
    """[rows, H, D] out of [rows, 3, H, D] (queries, keys, values).

    Args:
        seeds, masks, site: as for `dropout.dropout`; used by the triton back end.
    """
    query, key, value = qkv.unbind(1)
    if backend == "dense":
        vector = None if bias is None else bias.vector
        return dense_attention(
            query, key, value, spans.offsets, spans.offsets, vector, causal=causal, scale=scale, dropout=dropout
        )
    if backend == "flash":
        return flash_attention(query, key, value, spans, spans, causal=causal, scale=scale, dropout=dropout)
    vector, tiles, transposed = (None, None, None) if bias is None else bias
    assert spans.blocks is not None, "the triton back end wants its blocks"
    numbers = None if masks is None else masks.rows
    return attention_ops.self_attention(
        qkv, vector, tiles, transposed, spans.offsets, spans.blocks, causal, scale, dropout, seeds, numbers, site
    )[0]


def cross_attention(
    q: Tensor,
    kv: Tensor,
    spans: Spans,
    memory_spans: Spans,
    *,
    scale: float,
    dropout: float,
    seeds: Tensor | None,
    masks: Masks | None,
    site: int,
    backend: str,
) -> Tensor:
    """[target rows, H, D] out of q of that shape and kv [source rows, 2, H, D]: each summary sees its document."""
    key, value = kv.unbind(1)
    if backend == "dense":
        return dense_attention(
            q, key, value, spans.offsets, memory_spans.offsets, causal=False, scale=scale, dropout=dropout
        )
    if backend == "flash":
        return flash_attention(q, key, value, spans, memory_spans, causal=False, scale=scale, dropout=dropout)
    assert spans.blocks is not None, "the triton back end wants its blocks"
    numbers = None if masks is None else masks.rows
    return attention_ops.cross_attention(
        q, kv, spans.offsets, memory_spans.offsets, spans.blocks, memory_spans.blocks, scale, dropout, seeds, numbers,
        site,
    )[0]  # fmt: skip

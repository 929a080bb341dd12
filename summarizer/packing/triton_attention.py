"""Launching the kernels of `triton_forward` and `triton_backward`: grids, tile sizes, and what operators hand over."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from summarizer.packing import triton_backward, triton_forward
from summarizer.packing.attention_ops import BLOCK, near_tiles
from summarizer.packing.dropout import hash_threshold

COPIES = 16  # of the bias's gradient, against contention between programs that add to it
WARPS = 4
FORWARD_STAGES, KEY_STAGES, QUERY_STAGES, BIASED_QUERY_STAGES = 3, 2, 3, 2  # of loads ahead; a bias takes memory too
ROOMY_BYTES = 150_000  # of shared memory, for loads several tiles ahead


@lru_cache(maxsize=8)
def _shared_memory(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", ROOMY_BYTES))


def _options(q: Tensor, stages: int) -> dict[str, Any]:
    # float32 tiles take twice the shared memory, and are for checking rather than for speed
    exact = q.dtype == torch.float32
    # consumer cards have 99 KiB a block, an A100 163, an H100 227
    roomy = not q.is_cuda or _shared_memory(q.device) >= ROOMY_BYTES
    stages = min(stages, 2) if q.shape[2] > 64 else stages
    return {
        "PRECISION": "ieee" if exact else "tf32",
        "num_warps": WARPS,
        "num_stages": stages if roomy and not exact else 1,
    }


def _constants(q: Tensor, bias: Tensor | None, causal: bool, dropout: float) -> dict[str, Any]:
    reach = 0 if bias is None else (bias.shape[1] - 1) // 2
    return {
        "BIASED": bias is not None, "CAUSAL": causal, "DROPOUT": dropout > 0, "REACH": reach,
        "WIDE": 1 if bias is None else near_tiles(reach), "WIDTH": q.shape[2], "SIZE": BLOCK,
    }  # fmt: skip


def _strides(*tensors: Tensor) -> list[int]:
    assert all(x.stride(2) == 1 for x in tensors), "a head's numbers must lie next to each other"
    return [stride for x in tensors for stride in x.stride()[:2]]


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None, q_offsets: Tensor, k_offsets: Tensor,
    q_blocks: Tensor, causal: bool, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None,
    site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Out [query rows, H, D] and the log2-sum-exp of the scores [H, query rows] float32."""
    rows, heads, width = q.shape
    out = torch.empty(rows, heads, width, device=q.device, dtype=q.dtype)
    lse = torch.empty(heads, rows, device=q.device, dtype=torch.float32)
    unused = lse
    triton_forward.forward_kernel[(q_blocks.shape[0], heads)](
        q, k, v, unused if bias is None else bias, unused if tiles is None else tiles, out, lse, q_blocks, q_offsets,
        k_offsets, unused if seeds is None else seeds, unused if numbers is None else numbers, site,
        *_strides(q, k, v, out), rows, scale, hash_threshold(dropout), 1.0 / (1.0 - dropout),
        **_constants(q, bias, causal, dropout), **_options(q, FORWARD_STAGES),
    )  # fmt: skip
    return out, lse


def backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None,
    transposed: Tensor | None, out: Tensor, lse: Tensor, q_offsets: Tensor, k_offsets: Tensor, q_blocks: Tensor,
    k_blocks: Tensor, causal: bool, scale: float, dropout: float, seeds: Tensor | None, numbers: Tensor | None,
    site: int, dq: Tensor, dk: Tensor, dv: Tensor,
) -> Tensor:  # fmt: skip
    """Write dq, dk and dv; return the bias's gradient [H, 2R + 1] float32, empty without a bias."""
    rows, heads, width = q.shape
    gradient = gradient.contiguous()
    unused, grow = lse, 1.0 / (1.0 - dropout)
    delta = torch.empty_like(lse)
    row_numbers = torch.empty_like(lse, dtype=torch.int32) if dropout else unused
    triton_backward.rows_kernel[(triton.cdiv(rows, BLOCK), heads)](
        out, gradient, delta, row_numbers, unused if seeds is None else seeds, site, rows, grow, DROPOUT=dropout > 0,
        HEADS=heads, WIDTH=width, SIZE=BLOCK,
    )  # fmt: skip
    vector = unused if bias is None else bias
    dropping = rows, scale, hash_threshold(dropout), grow
    places = q_offsets, k_offsets, unused if numbers is None else numbers
    constants = _constants(q, bias, causal, dropout)
    triton_backward.key_kernel[(k_blocks.shape[0], heads)](
        q, k, v, vector, unused if transposed is None else transposed, gradient, dk, dv, lse, delta, row_numbers,
        k_blocks, *places, *_strides(q, k, v, gradient, dk), *dropping, **constants, **_options(q, KEY_STAGES),
    )  # fmt: skip
    assert dk.stride() == dv.stride(), "dk and dv are laid out alike"
    summed = lse.new_empty(0) if bias is None else lse.new_zeros(COPIES, *bias.shape)
    triton_backward.query_kernel[(q_blocks.shape[0], heads)](
        q, k, v, vector, unused if tiles is None else tiles, gradient, dq, unused if bias is None else summed, lse,
        delta, row_numbers, q_blocks, *places, *_strides(q, k, v, gradient, dq), *dropping, LEARN=bias is not None,
        NUM_COPIES=COPIES, **constants, **_options(q, QUERY_STAGES if bias is None else BIASED_QUERY_STAGES),
    )  # fmt: skip
    return summed if bias is None else summed.sum(0) * grow

"""Launching the kernels of `triton_kernels`: grids, tile sizes and what the operators of `attention_ops` hand over."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import triton
from torch import Tensor

from summarizer.packing import triton_kernels as kernels
from summarizer.packing.attention_ops import BLOCK, near_tiles

COPIES = 16  # of the bias's gradient, against contention between programs that add to it
WARPS = 4
FORWARD_STAGES, BACKWARD_STAGES = 3, 2
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


def _dropping(dropout: float) -> tuple[int, float]:
    """The hash below which a score is dropped, and the factor of the rest."""
    return int(dropout * 2**31), 1.0 / (1.0 - dropout)


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None, q_offsets: Tensor, k_offsets: Tensor,
    longest_q: int, causal: bool, scale: float, dropout: float, seeds: Tensor | None, site: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Out [query rows, H, D] and the log2-sum-exp of the scores [H, query rows] float32."""
    rows, heads, width = q.shape
    out = torch.empty(rows, heads, width, device=q.device, dtype=q.dtype)
    lse = torch.empty(heads, rows, device=q.device, dtype=torch.float32)
    unused = lse
    grid = (triton.cdiv(longest_q, BLOCK), heads, q_offsets.shape[0] - 1)
    kernels._forward_kernel[grid](
        q, k, v, unused if bias is None else bias, unused if tiles is None else tiles, out, lse, q_offsets, k_offsets,
        unused if seeds is None else seeds, site, *_strides(q, k, v, out), rows, scale, *_dropping(dropout),
        **_constants(q, bias, causal, dropout), **_options(q, FORWARD_STAGES),
    )  # fmt: skip
    return out, lse


def backward(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, tiles: Tensor | None,
    transposed: Tensor | None,
    out: Tensor, lse: Tensor, q_offsets: Tensor, k_offsets: Tensor, longest_q: int, longest_k: int, causal: bool,
    scale: float, dropout: float, seeds: Tensor | None, site: int, dq: Tensor, dk: Tensor, dv: Tensor,
) -> Tensor:  # fmt: skip
    """Write dq, dk and dv; return the bias's gradient [H, 2R + 1] float32, empty without a bias."""
    rows, heads, width = q.shape
    gradient = gradient.contiguous()
    delta = torch.empty_like(lse)
    kernels._delta_kernel[(triton.cdiv(rows, BLOCK), heads)](
        out, gradient, delta, rows, HEADS=heads, WIDTH=width, SIZE=BLOCK
    )
    unused = lse
    vector = unused if bias is None else bias
    seeds_or_not = unused if seeds is None else seeds
    constants, options = _constants(q, bias, causal, dropout), _options(q, BACKWARD_STAGES)
    documents = q_offsets.shape[0] - 1
    kernels._key_kernel[(triton.cdiv(longest_k, BLOCK), heads, documents)](
        q, k, v, vector, unused if transposed is None else transposed, gradient, dk, dv, lse, delta, q_offsets,
        k_offsets,
        seeds_or_not, site, *_strides(q, k, v, gradient, dk), rows, scale, *_dropping(dropout), **constants, **options,
    )  # fmt: skip
    assert dk.stride() == dv.stride(), "dk and dv are laid out alike"
    summed = lse.new_empty(0) if bias is None else lse.new_zeros(COPIES, *bias.shape)
    kernels._query_kernel[(triton.cdiv(longest_q, BLOCK), heads, documents)](
        q, k, v, vector, unused if tiles is None else tiles, gradient, dq, unused if bias is None else summed, lse,
        delta, q_offsets,
        k_offsets, seeds_or_not, site, *_strides(q, k, v, gradient, dq), rows, scale, *_dropping(dropout),
        LEARN=bias is not None, NUM_COPIES=COPIES, **constants, **options,
    )  # fmt: skip
    return summed if bias is None else summed.sum(0)

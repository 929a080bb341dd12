"""Dropout whose mask is a hash of row, column and a seed: nothing is stored, nothing is drawn, and kernels fuse it.

PyTorch's own dropout stores a byte an element and is bound by its random generator; in a compiled layer that was a
tenth of a step on an H100. Here an element is kept by the product of two random numbers, its row's (changed by the seed
of layer and place) and its column's: multiply-shift hashing (Dietzfelbinger et al. 1997, "A reliable randomized
algorithm for the closest-pair problem"), whose results are independent in pairs. Seeds are mixed by `lowbias32` of
Wellons (2018, "Prospecting for Hash Functions"). All in wrapping int32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

SITES = 8  # seeds of one layer, one a place that drops; 32 bytes, so that each layer's row is aligned
MARGIN = 64  # numbers of rows that a kernel's last tile may read and not use
_FIRST, _SECOND = 0x7FEB352D, 0x846CA68B - 2**32


class Masks(NamedTuple):
    """Fixed random odd numbers of rows and columns that the hash starts from: int32 [rows and more], [columns].

    Loaded rather than computed: Inductor takes `arange * constant` for an index and refuses what exceeds int32.
    """

    rows: Tensor
    columns: Tensor


def fixed_numbers(rows: int, columns: int, device: torch.device) -> Masks:
    rows += MARGIN
    generator = torch.Generator().manual_seed(20180731)
    low, high = -(2**31), 2**31 - 1
    numbers = torch.randint(low, high, (rows + columns,), generator=generator, dtype=torch.int64).to(torch.int32) | 1
    return Masks(*(part.clone().to(device) for part in (numbers[:rows], numbers[rows:])))


def _mixed(h: Tensor) -> Tensor:
    # the masks make the arithmetic shift of int32 a logical one
    h = (h ^ ((h >> 16) & 0xFFFF)) * _FIRST
    h = (h ^ ((h >> 15) & 0x1FFFF)) * _SECOND
    return h ^ ((h >> 16) & 0xFFFF)


def layer_seeds(seed: Tensor, layers: int) -> Tensor:
    """[layers, SITES] int32 out of one int32 number, all different."""
    sites = torch.arange(layers * SITES, device=seed.device, dtype=torch.int32)
    return _mixed(_mixed(sites + 1) ^ seed).view(layers, SITES)


def hash_threshold(share: float) -> int:
    """The int32 below which this share of all hashes lies."""
    return int(share * 2**32) - 2**31


def dropout(x: Tensor, share: float, seeds: Tensor | None, site: int, masks: Masks | None) -> Tensor:
    """Zero a share of [rows, columns] and scale the rest.

    Args:
        seeds: [SITES] int32 of this layer; None draws from PyTorch's generator instead.
        site: which of the layer's seeds.
        masks: numbers for at least as many rows and columns.
    """
    if share == 0.0:
        return x
    if seeds is None or masks is None:
        return F.dropout(x, share)
    h = (masks.rows[: x.shape[0], None] ^ seeds[site]) * masks.columns[None, : x.shape[1]]
    return torch.where(h >= hash_threshold(share), x * (1.0 / (1.0 - share)), 0.0).to(x.dtype)

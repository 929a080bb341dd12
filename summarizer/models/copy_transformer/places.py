"""The places of a batch that count in a loss: the words to predict, the inputs to restore.

Their number is a matter of the ids. A processor takes just these places. On a card that would cost twice: the host has to wait for
the number, and a step whose shapes change cannot be recorded. There a fixed number is taken, and those too many weigh nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEVIATIONS = 8
"""Places drawn at random are more than the mean and so many standard deviations less than once in 10^14 batches."""


class Places:
    """Flat places of [B, L] tensors.

    Args:
        wanted: [B, L], true where a place counts.
        is_static: take a number of places that follows from the shape.
        share: of all places those that count, where each is drawn by itself with this probability; else 1. A static number takes
            little more than this share.
    """

    def __init__(self, wanted: Tensor, *, is_static: bool, share: float = 1.0) -> None:
        wanted = wanted.flatten()
        self.index: Tensor | None = None
        """[N]; None: every place, in order."""
        self.counts: Tensor | None = None
        """[N], true where a place counts; None: all do."""
        if not is_static:
            self.index = wanted.nonzero().squeeze(-1)
            return
        size = len(wanted)
        most = min(size, math.ceil(size * share + DEVIATIONS * math.sqrt(size * share * (1 - share))))
        if most == size:
            self.counts = wanted
            return
        turn = wanted.cumsum(0) - 1
        turn = torch.where(wanted & (turn < most), turn, most)  # what is not taken goes behind the last
        everywhere = torch.arange(size, device=wanted.device)
        self.index = turn.new_zeros(most + 1).scatter_(0, turn, everywhere)[:most]
        self.counts = everywhere[:most] < wanted.sum()

    def of(self, x: Tensor) -> Tensor:
        """[N, ...]: `x` [B, L, ...] at these places."""
        x = x.flatten(0, 1)
        return x if self.index is None else x.index_select(0, self.index)

    def words(self, ids: Tensor) -> Tensor:
        """[N]: the ids [B, L] at these places; where one does not count, a word all the same."""
        ids = self.of(ids)
        return ids if self.counts is None else ids.masked_fill(~self.counts, 0)

    def mean(self, x: Tensor, number: int | None = None) -> Tensor:
        """Of values [N] at these places, those that count: their sum, divided by their number or the given one."""
        if self.counts is None:
            return x.sum() / max(1, len(x) if number is None else number)
        total = x.masked_fill(~self.counts, 0).sum()
        return total / (self.counts.sum().clamp(min=1) if number is None else max(1, number))

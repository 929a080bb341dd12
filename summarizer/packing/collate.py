"""Documents laid end to end as the tensors of one pack: always the same shapes, so that kernels are compiled once.

A pack is a dict, as the batches of `summarizer.data.collate` are, with the same three plain numbers: `documents`,
`tokens` (real ones) and `slots` (all). Its tail is filled with dummy documents that carry no loss, because every row
must belong to a document: what attention leaves unwritten could be NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from summarizer.data.collate import IGNORED, Pair, counts
from summarizer.packing.planning import PackBudget

Pack = dict[str, Any]


def with_tail(lengths: Sequence[int], total: int, longest: int, slots: int) -> np.ndarray:
    """[slots] lengths that sum to `total`: the given ones, then dummies of at most `longest`, then zeros."""
    rest = total - sum(lengths)
    assert rest >= 0, f"{sum(lengths)} tokens do not fit into a pack of {total}"
    dummies = [longest] * (rest // longest) + ([rest % longest] if rest % longest else [])
    assert len(lengths) + len(dummies) <= slots, "more documents than the pack has slots"
    return np.array([*lengths, *dummies, *[0] * (slots - len(lengths) - len(dummies))], dtype=np.int64)


def offsets_of(lengths: np.ndarray) -> torch.Tensor:
    """[N + 1] int32: where each document starts, and the end of the last; kernels call it cu_seqlens."""
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def positions_of(lengths: np.ndarray) -> torch.Tensor:
    """[sum of lengths] int64: a row's position within its document."""
    starts = np.cumsum(lengths) - lengths
    return torch.from_numpy(np.arange(int(lengths.sum())) - np.repeat(starts, lengths))


def laid_out(rows: Sequence[np.ndarray], total: int, fill: int) -> torch.Tensor:
    """[total] int64: the rows end to end, then `fill`."""
    out = np.full(total, fill, dtype=np.int64)
    joined = np.concatenate(rows) if rows else out[:0]
    out[: len(joined)] = joined
    return torch.from_numpy(out)


class PackedSeq2SeqCollator:
    """For encoder-decoders.

    Returns a dict of source_ids [S], source_positions [S], source_offsets [N + 1],
    target_ids [T] (the decoder's input),
    target_positions [T], target_offsets [N + 1], labels [T], and the plain numbers longest_source and longest_target.

    Args:
        start_token_id: the decoder's first input; None begins with the summary's own last token, as mBART does.
    """

    def __init__(self, budget: PackBudget, pad_token_id: int, start_token_id: int | None) -> None:
        self.budget, self.pad_token_id, self.start_token_id = budget, pad_token_id, start_token_id

    def decoder_input(self, target: np.ndarray) -> np.ndarray:
        """The summary moved one to the right."""
        first = target[-1] if self.start_token_id is None else self.start_token_id
        return np.concatenate([[first], target[:-1]])

    def __call__(self, pairs: Sequence[Pair]) -> Pack:
        budget = self.budget
        sources, targets = ([np.asarray(pair[side]) for pair in pairs] for side in (0, 1))
        source_lengths = with_tail(
            [len(row) for row in sources], budget.source_tokens, budget.longest_source, budget.slots
        )
        target_lengths = with_tail(
            [len(row) for row in targets], budget.target_tokens, budget.longest_target, budget.slots
        )
        return {
            "source_ids": laid_out(sources, budget.source_tokens, self.pad_token_id),
            "source_positions": positions_of(source_lengths),
            "source_offsets": offsets_of(source_lengths),
            "target_ids": laid_out(
                [self.decoder_input(row) for row in targets], budget.target_tokens, self.pad_token_id
            ),
            "target_positions": positions_of(target_lengths),
            "target_offsets": offsets_of(target_lengths),
            "labels": laid_out(targets, budget.target_tokens, IGNORED),
            "longest_source": budget.longest_source,
            "longest_target": budget.longest_target,
            **counts(pairs, budget.source_tokens + budget.target_tokens),
        }


class PackedCausalCollator:
    """For decoder-only models: document and summary in one sequence, the loss on the summary only.

    Returns input_ids [S + T], positions [S + T], offsets [N + 1], and for the loss alone label_rows [T], the rows whose
    output predicts a summary's token (0 where unused), and labels [T] with -100 where unused.
    """

    def __init__(self, budget: PackBudget, pad_token_id: int) -> None:
        self.budget, self.pad_token_id = budget, pad_token_id

    def __call__(self, pairs: Sequence[Pair]) -> Pack:
        budget = self.budget
        total, longest = budget.source_tokens + budget.target_tokens, budget.longest_source + budget.longest_target
        rows = [np.concatenate([source, target]) for source, target in pairs]
        lengths = with_tail([len(row) for row in rows], total, longest, budget.slots)
        ends = np.cumsum(lengths)
        predicting = [np.arange(ends[i] - len(target) - 1, ends[i] - 1) for i, (_, target) in enumerate(pairs)]
        return {
            "input_ids": laid_out(rows, total, self.pad_token_id),
            "positions": positions_of(lengths),
            "offsets": offsets_of(lengths),
            "label_rows": laid_out(predicting, budget.target_tokens, 0),
            "labels": laid_out([np.asarray(target) for _, target in pairs], budget.target_tokens, IGNORED),
            "longest": longest,
            **counts(pairs, total),
        }

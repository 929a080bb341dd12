"""Token ids of several documents as the tensors of one forward pass.

Shapes: B documents, S source tokens, T target tokens (padded to the longest of the batch). Beside its tensors a batch
carries plain numbers: `documents`, `tokens` (real ones), `slots` (padded ones too), and `length_sums`, from which its
arithmetic follows (`summarizer.packing.arithmetic`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

IGNORED = -100  # transformers' and torch's label of a position that carries no loss

Pair = tuple[np.ndarray, np.ndarray]


def counts(pairs: Sequence[Pair], slots: int) -> dict[str, Any]:
    """Plain numbers about a batch, counted here because reading them off the device would stall it."""
    source, target = ([len(pair[side]) for pair in pairs] for side in (0, 1))
    return {
        "documents": len(pairs),
        "tokens": sum(source) + sum(target),
        "slots": slots,
        "length_sums": (
            sum(source), sum(target), sum(s * s for s in source), sum(t * t for t in target),
            sum(s * t for s, t in zip(source, target, strict=True)),
        ),
    }  # fmt: skip


def padded(rows: Sequence[np.ndarray], value: int, *, left: bool = False, multiple: int = 1) -> torch.Tensor:
    """Rows of ids as one [B, longest] int64 tensor, filled up with `value`."""
    width = max(map(len, rows))
    width = -(-width // multiple) * multiple
    out = np.full((len(rows), width), value, dtype=np.int64)
    for i, row in enumerate(rows):
        if left:
            out[i, width - len(row) :] = row
        else:
            out[i, : len(row)] = row
    return torch.from_numpy(out)


class Seq2SeqCollator:
    """For encoder-decoders: input_ids [B, S], attention_mask [B, S], labels [B, T] with -100 where padded.

    Args:
        multiple: widths are rounded up to it, which gives compiled kernels and recorded steps few shapes.
        target_multiple: likewise, of labels; None: the same.
        global_first_token: also give global_attention_mask [B, S] with the first token global, as LED wants for summaries.
    """

    def __init__(
        self,
        pad_token_id: int,
        multiple: int = 1,
        *,
        target_multiple: int | None = None,
        global_first_token: bool = False,
    ) -> None:
        self.pad_token_id, self.multiple, self.global_first_token = pad_token_id, multiple, global_first_token
        self.target_multiple = target_multiple or multiple

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        sources, targets = zip(*pairs, strict=True)
        input_ids = padded(sources, self.pad_token_id, multiple=self.multiple)
        # by length, not by id: a document may hold the padding token (BART's tokenizers can produce it)
        lengths = torch.tensor([len(source) for source in sources])
        mask = (torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]).long()
        batch = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": padded(targets, IGNORED, multiple=self.target_multiple),
        }
        if self.global_first_token:
            batch["global_attention_mask"] = torch.zeros_like(mask).index_fill_(1, torch.tensor(0), 1)
        return batch | counts(pairs, input_ids.numel() + batch["labels"].numel())


class CausalCollator:
    """For decoder-only models: document, then summary in one sequence; the loss is on the summary only."""

    def __init__(self, pad_token_id: int, multiple: int = 1) -> None:
        self.pad_token_id, self.multiple = pad_token_id, multiple

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        rows = [np.concatenate([source, target]) for source, target in pairs]
        labels = [np.concatenate([np.full(len(source), IGNORED), target]) for source, target in pairs]
        input_ids = padded(rows, self.pad_token_id, multiple=self.multiple)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]).long()
        batch = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": padded(labels, IGNORED, multiple=self.multiple),
        }
        return batch | counts(pairs, input_ids.numel())

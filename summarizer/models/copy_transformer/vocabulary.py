"""The table of words, looked up and scored against: log-probabilities of known words under a softmax over the vocabulary,
without its logits in memory all at once.

Shapes: N rows, D = `d_model`, V = `vocab_size`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 1 << 21}
"""Of logits at a time. On a processor what fits its caches: whole tensors are fetched from memory for every operation."""
OTHER_CHUNK_BYTES = 1 << 27


def looked_up(table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the table [V, D] for ids [N], and the table as `word_log_probabilities` multiplies with it.

    Both gradients of the table are made in one tensor; summed by autograd, each lookup's would be as large as the table.
    """
    rows, matrix = _LookedUp.apply(table, ids)
    return rows, matrix


class _LookedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(ids)
        return table[ids], table.to(_product_type(table), copy=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        to_rows, to_matrix = gradients
        (ids,) = ctx.saved_tensors
        return to_matrix.to(to_rows.dtype, copy=True).index_add_(0, ids, to_rows), None


def _product_type(x: Tensor) -> torch.dtype:
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def word_log_probabilities(hidden: Tensor, embeddings: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row's own word, and the logarithm of the sum over all words that it is measured against.

    Args:
        hidden: [N, D]. embeddings: [V, D], whose products with `hidden` are the logits. words: [N].

    Returns:
        [N] log-probabilities and [N] logsumexp of the logits, in float32.
    """
    own, total = _WordLogProbabilities.apply(hidden, embeddings, words)
    return own, total


class _WordLogProbabilities(torch.autograd.Function):
    """Keeps each chunk's probabilities for the gradient: g (onehot - p), scaled row by row, is all of it."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, embeddings: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        device, dtype = hidden.device.type, _product_type(hidden)
        rows, matrix = hidden.to(dtype), embeddings.to(dtype)
        own, total, kept = [], [], []
        for part in _chunks(len(hidden), len(embeddings), dtype.itemsize, device):
            logits = rows[part] @ matrix.T
            probabilities = logits.softmax(dim=-1)
            # the sum over all words, from the likeliest one's logit and probability: no other pass over the logits
            all_words = logits.amax(dim=-1).float() - probabilities.amax(dim=-1).float().log()
            own.append(logits.gather(-1, words[part, None]).squeeze(-1).float() - all_words)
            total.append(all_words)
            kept.append(probabilities.to(dtype))  # CUDA's autocast makes them float32
        ctx.save_for_backward(rows, matrix, words, *kept)
        ctx.types = hidden.dtype, embeddings.dtype
        empty = hidden.new_zeros(0, dtype=torch.float32)
        return (torch.cat(own), torch.cat(total)) if own else (empty, empty)

    @staticmethod
    def backward(ctx: Any, own_gradient: Tensor, total_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, matrix, words, *kept = ctx.saved_tensors
        share = (total_gradient - own_gradient).to(rows.dtype)[:, None]
        to_rows, to_matrix = torch.empty_like(rows), torch.zeros_like(matrix)
        for part, probabilities in zip(
            _chunks(len(rows), len(matrix), rows.itemsize, rows.device.type), kept, strict=True
        ):
            scaled = probabilities * share[part]
            torch.mm(scaled, matrix, out=to_rows[part])
            to_matrix.addmm_(scaled.T, rows[part])
        own_share = own_gradient.to(rows.dtype)[:, None]
        to_rows.addcmul_(matrix[words], own_share)
        to_matrix.index_add_(0, words, rows * own_share)
        return to_rows.to(ctx.types[0]), to_matrix.to(ctx.types[1]), None


def _chunks(rows: int, width: int, itemsize: int, device: str) -> list[slice]:
    size = max(1, CHUNK_BYTES.get(device, OTHER_CHUNK_BYTES) // (itemsize * width))
    return [slice(start, min(start + size, rows)) for start in range(0, rows, size)]

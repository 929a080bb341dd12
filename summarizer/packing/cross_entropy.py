"""Output layer and cross-entropy in one, a chunk of rows at a time, so that all logits never exist at once.

The gradients are made in the forward pass, while a chunk's logits are at hand (as in Wijmans et al. 2024, arXiv
2411.09009, and liger-kernel): memory is one chunk of logits instead of rows x vocabulary, several times over.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from summarizer.data.collate import IGNORED

CHUNK_ROWS = 4096
ALIGNMENT = (
    64  # words; without, a vocabulary of odd size (BART's 50,265) makes its products 5 to 7 times as slow on CUDA
)


def chunk_loss(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_smoothing: float,
    count: Tensor,
    words: int,
) -> tuple[Tensor, Tensor]:
    """One chunk's share of the mean loss, and the gradient of its logits [rows, V or more] in `hidden`'s type.

    Args:
        weight: [V or more, d]; what follows the V `words` is no word.
    """
    logits = F.linear(hidden, weight).float()
    if bias is not None:
        logits = logits + bias.float()
    columns = torch.arange(logits.shape[1], device=logits.device)[None, :]
    is_word = columns < words
    logits = torch.where(is_word, logits, float("-inf"))
    counted = labels != IGNORED
    wanted = labels.clamp(min=0)[:, None]
    log_sum = torch.logsumexp(logits, -1)
    loss = log_sum - (1 - label_smoothing) * logits.gather(1, wanted)[:, 0]
    ideal = torch.where(columns == wanted, 1.0 - label_smoothing, 0.0)
    if label_smoothing:
        loss = loss - label_smoothing / words * torch.where(is_word, logits, 0.0).sum(-1)
        ideal = ideal + torch.where(is_word, label_smoothing / words, 0.0)
    loss = torch.where(counted, loss, 0.0).sum() / count
    gradient = (torch.exp(logits - log_sum[:, None]) - ideal) * (counted / count)[:, None]
    return loss, gradient.to(hidden.dtype)


def _aligned(x: Tensor, dtype: torch.dtype, narrow: bool) -> Tensor:
    """[V, ...] in a type, with rows of zeros up to a multiple where products are of a narrow type."""
    missing = -x.shape[0] % ALIGNMENT if narrow else 0
    if not missing:
        return x.to(dtype)
    out = x.new_zeros(x.shape[0] + missing, *x.shape[1:], dtype=dtype)
    out[: x.shape[0]] = x
    return out


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        label_smoothing: float,
        chunk: Any,
        learning: bool,
    ) -> Tensor:
        narrow, words = hidden.dtype in (torch.bfloat16, torch.float16), weight.shape[0]
        used = _aligned(weight, hidden.dtype, narrow)
        bias = None if bias is None else _aligned(bias, bias.dtype, narrow)
        count = (labels != IGNORED).sum().clamp(min=1).float()
        hidden_gradient = torch.empty_like(hidden) if learning and hidden.requires_grad else None
        weight_gradient = torch.zeros_like(used, dtype=torch.float32) if learning and weight.requires_grad else None
        total = torch.zeros((), device=hidden.device)
        # chunks of one size where that is possible: compiled code is made for each
        chunks = max(1, math.ceil(hidden.shape[0] / CHUNK_ROWS))
        size = max(1, math.ceil(hidden.shape[0] / chunks))
        for start in range(0, hidden.shape[0], size):
            rows = slice(start, start + size)
            loss, gradient = chunk(hidden[rows], used, bias, labels[rows], label_smoothing, count, words)
            total = total + loss
            if hidden_gradient is not None:
                hidden_gradient[rows] = gradient @ used
            if weight_gradient is not None:
                weight_gradient += gradient.t() @ hidden[rows]
        ctx.save_for_backward(hidden_gradient, None if weight_gradient is None else weight_gradient[:words])
        ctx.weight_type = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = outputs
        hidden, weight = ctx.saved_tensors
        return (
            # in float32: the scale may be a number of tokens, which eight bits would round
            None if hidden is None else (hidden.float() * scale).to(hidden.dtype),
            None if weight is None else (weight * scale).to(ctx.weight_type),
            None,
            None,
            None,
            None,
            None,
        )


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    label_smoothing: float = 0.0,
    *,
    chunk: Any = chunk_loss,
) -> Tensor:
    """Mean cross-entropy of `hidden @ weight.T + bias` over the rows whose label is not -100: a float32 scalar.

    Equal to `F.cross_entropy(..., ignore_index=-100, label_smoothing=...)`, but 0 instead of NaN when no row counts.

    Args:
        hidden: [rows, d], of the type that products are computed in.
        weight: [V, d], of any float type; its gradient is summed in float32.
        bias: [V] or None; a constant (transformers' `final_logits_bias` is a buffer).
        labels: [rows].
        chunk: `chunk_loss`, or it compiled.
    """
    # without gradients asked for, none are made: validation costs the forward pass only
    learning = torch.is_grad_enabled()
    return _LinearCrossEntropy.apply(hidden, weight, bias, labels, label_smoothing, chunk, learning)

"""The arithmetic of training and the peak of a card: their ratio is MFU (Chowdhery et al. 2022, arXiv 2204.02311)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from summarizer.cards import peak_flops
from summarizer.packing.anatomy import Attention, FeedForward, anatomy_of


def device_peak(device: torch.device) -> float | None:
    """Dense bfloat16 operations a second of a device; None where it is not known."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def training_flops(model: Any, source_lengths: np.ndarray, target_lengths: np.ndarray) -> float:
    """Operations of one forward and backward pass over these documents, padding and recomputation not counted.

    Args:
        source_lengths, target_lengths: [documents] tokens.
    """
    source, target = np.asarray(source_lengths, dtype=np.float64), np.asarray(target_lengths, dtype=np.float64)
    sums = source.sum(), target.sum(), (source**2).sum(), (target**2).sum(), (source * target).sum()
    return float(training_arithmetic(model) @ np.array(sums))


def training_arithmetic(model: Any) -> np.ndarray:
    """[5] operations of training for each source token, target token, and their squares and product in each document.

    Two a weight and token, and twice the forward pass for the backward; the decoder's own attention counts half of its
    square, because it sees only what came before. For models that `supports_packing`.
    """
    anatomy = anatomy_of(model)

    def of_queries(part: Attention) -> int:
        return part.query.weight.numel() + part.output.weight.numel()

    def of_keys(part: Attention) -> int:
        return part.key.weight.numel() + part.value.weight.numel()

    def of_feed_forward(part: FeedForward) -> int:
        return sum(piece.weight.numel() for piece in part.inner) + part.output.weight.numel()

    total = np.zeros(5)
    for layer in anatomy.encoder.layers:
        attention = layer.self_attention
        weights = of_queries(attention) + of_keys(attention) + of_feed_forward(layer.feed_forward)
        total += [2 * weights, 0, 4 * attention.query.weight.shape[0], 0, 0]
    for layer in anatomy.decoder.layers:
        attention, cross = layer.self_attention, layer.cross_attention
        assert cross is not None
        weights = of_queries(attention) + of_keys(attention) + of_queries(cross) + of_feed_forward(layer.feed_forward)
        width = attention.query.weight.shape[0]
        total += [2 * of_keys(cross), 2 * weights, 0, 2 * width, 4 * width]
    total[1] += 2 * anatomy.head.weight.numel()
    return 3 * total

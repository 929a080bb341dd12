"""Where in the document the next word stands: pointer distributions with features of what was copied so far.

Shapes: B documents (or beams), S source tokens, T target tokens, D = `d_model`, C = `copy_heads`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .configuration_copy_transformer import CopyTransformerConfig

FEATURES = 4


def one_later(x: Tensor) -> Tensor:
    """`x` [B, T, S] moved by one word written and one source token, with zeros coming in."""
    return F.pad(x, (1, -1, 1, -1))


def continuation_features(source_ids: Tensor, written_ids: Tensor) -> Tensor:
    """What each source position has to do with the words written so far.

    Args:
        source_ids: [B, S].
        written_ids: [B, T], decoder inputs: row t ends with the word after which the next one is predicted.

    Returns:
        [B, T, S, 4] of zeros and ones. The first three say that the 1, 2 or 3 tokens before the position equal the last
        ones written, as for a span that is being copied (the induction heads of Olsson et al. 2022, arXiv 2209.11895,
        given instead of learned). The fourth says that the position's own token was written before, against repetition
        (the coverage of See et al. 2017, arXiv 1704.04368, made binary).
    """
    equal = (written_ids[:, :, None] == source_ids[:, None, :]).to(torch.float32)
    one = F.pad(equal, (1, -1))
    two = one * one_later(one)
    three = one * one_later(two)
    return torch.stack((one, two, three, equal.cumsum(1).clamp(max=1.0)), dim=-1)


def features_of_beams(source_ids: Tensor, written_ids: Tensor, position: Tensor) -> Tensor:
    """`continuation_features` of one word of each beam, [B, K, S, 4], for words written by K beams of each document.

    Args:
        source_ids: [B, S], S at least 3.
        written_ids: [B, K, T]; only words up to the one at `position` [1] are looked at.
    """
    sources = source_ids[:, None, :]
    at = torch.arange(written_ids.shape[2], device=written_ids.device)
    seen = ((written_ids[..., None] == sources[:, :, None]) & (at <= position)[:, None]).any(dim=2)
    features: list[Tensor] = []
    for back in range(3):  # the word before a place, and those before it
        word = written_ids.gather(2, (position - back).clamp(min=0).expand(*written_ids.shape[:2], 1))
        equal = ((word == sources) & (position >= back)).to(torch.float32)
        equal = F.pad(equal, (back + 1, -back - 1))
        features.append(features[-1] * equal if features else equal)
    return torch.stack((*features, seen.to(torch.float32)), dim=-1)


class PointerKeys(nn.Module):
    """What pointers compare with: a projection of each source token's hidden state and of the one before it."""

    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__()
        self.key = nn.Linear(2 * config.d_model, config.d_model)

    def forward(self, source: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]."""
        return self.key(torch.cat((source, F.pad(source, (0, 0, 1, -1))), dim=-1))


class Pointer(nn.Module):
    """C attention distributions over the source tokens, and the weights by which they and the vocabulary are mixed."""

    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__()
        self.heads = config.copy_heads
        self.query = nn.Linear(config.d_model, config.d_model)
        # parameters of its own: transformers hands a module without any to `_init_weights` only sometimes
        self.feature_weight = nn.Parameter(torch.zeros(self.heads, FEATURES))
        self.gate_weight = nn.Parameter(torch.zeros(1 + self.heads, config.d_model))
        self.gate_bias = nn.Parameter(torch.zeros(1 + self.heads))

    def forward(self, x: Tensor, keys: Tensor, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Distributions and log mixture weights, in float32.

        Args:
            x: [B, T, D], decoder states. keys: [B, S, D], of `PointerKeys`. features: [B, T, S, 4].
            mask: [B, 1, 1, S], true where a source token stands.

        Returns:
            copy: [B, C, T, S], each row sums to 1. log_weights: [B, T, 1 + C], the vocabulary's first.
        """
        batch, length, width = x.shape
        query = self.query(x).view(batch, length, self.heads, -1).transpose(1, 2)
        key = keys.view(batch, keys.shape[1], self.heads, -1).permute(0, 2, 3, 1)
        scores = (query @ key).float() * (width // self.heads) ** -0.5
        scores = scores + F.linear(features.to(x.dtype), self.feature_weight).permute(0, 3, 1, 2).float()
        copy = scores.masked_fill(~mask, torch.finfo(torch.float32).min).softmax(dim=-1)
        return copy, F.linear(x, self.gate_weight, self.gate_bias).float().log_softmax(dim=-1)

"""One word of a copy transformer for many beams at once: what `decoding` does for models that pack.

A document is encoded once for all of its beams, which stand where `forward` has the words of a summary; it is padded, since its
tokens are pointed at one by one.

Shapes: B documents (slots), K beams each, S source tokens, D = `d_model`, H heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from summarizer.models.copy_transformer import CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.layers import attend, rotary_angles, rotate
from summarizer.models.copy_transformer.modeling_copy_transformer import IGNORED, mixture_log_probabilities
from summarizer.models.copy_transformer.pointer import features_of_beams
from summarizer.packing.beam_search import SearchSettings, SearchState
from summarizer.packing.decoding import History, filled, through_cache

WIDTH_STEP = 8  # attention's fast kernels take multiples


def copies(model: Any) -> bool:
    return isinstance(model, CopyTransformerForConditionalGeneration)


class CopyCache(History):
    """With the encoded documents."""

    def __init__(
        self,
        config: Any,
        documents: int,
        settings: SearchSettings,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        layers, units = config.decoder_layers, config.d_model
        super().__init__(layers, documents, settings.beams, settings.max_new_tokens, units, dtype=dtype, device=device)
        heads = (documents, config.num_heads, width, units // config.num_heads)
        self.memory_keys = [torch.zeros(heads, device=device, dtype=dtype) for _ in range(layers)]
        self.memory_values = [torch.zeros(heads, device=device, dtype=dtype) for _ in range(layers)]
        self.copy_keys = torch.zeros(documents, width, units, device=device, dtype=dtype)
        self.source_ids = torch.full((documents, width), IGNORED, device=device)

    @property
    def memory(self) -> list[Tensor]:
        """One row a document each."""
        return [*self.memory_keys, *self.memory_values, self.copy_keys, self.source_ids]

    def take_over(self, other: Self, kept: list[int]) -> None:
        super().take_over(other, kept)
        rows = torch.tensor(filled(kept, self.documents), device=self.position.device)
        for mine, theirs in zip(self.memory, other.memory, strict=True):
            mine.copy_(theirs[rows])


class CopyDecoder:
    """A `generation.Decoder`; arguments as of `PackedGenerator`."""

    def __init__(self, model: Any, settings: SearchSettings, compute: torch.dtype | None) -> None:
        self.model, self.config, self.settings = model, model.config, settings
        weight = model.shared.weight
        self.device, self.compute = weight.device, compute or weight.dtype
        self.is_cast = self.compute != weight.dtype
        self.angles = rotary_angles(settings.max_new_tokens, self.config.d_model // self.config.num_heads, weight)

    def cast(self) -> Any:
        """Autocast, without its cache of weights: a recorded step would read it in their place."""
        return torch.autocast(self.device.type, self.compute, enabled=self.is_cast, cache_enabled=False)

    def cache(self, documents: int, longest: int) -> CopyCache:
        width = -(-longest // WIDTH_STEP) * WIDTH_STEP
        return CopyCache(self.config, documents, self.settings, width, self.compute, self.device)

    def remember(self, cache: CopyCache, sources: Sequence[np.ndarray]) -> None:
        width = cache.source_ids.shape[1]
        ids = np.full((cache.documents, width), self.config.pad_token_id, dtype=np.int64)
        lengths = np.ones(cache.documents, dtype=np.int64)  # a slot without a document has a word: attention needs one
        assert max(map(len, sources)) <= width, "a document is longer than said"
        for row, source in enumerate(sources):
            ids[row, : len(source)], lengths[row] = source, len(source)
        mask = torch.from_numpy(np.arange(width) < lengths[:, None]).long()
        with self.cast():
            encoded = self.model.encoder(torch.from_numpy(ids).to(self.device), mask.to(self.device))
            cache.source_ids.copy_(encoded.source_ids)
            cache.copy_keys.copy_(encoded.copy_keys)
            for i, layer in enumerate(self.model.layers):
                both = layer.cross_attention.key_value(encoded.last_hidden_state)
                split = both.view(cache.documents, width, 2, self.config.num_heads, -1).permute(2, 0, 3, 1, 4)
                cache.memory_keys[i].copy_(split[0])
                cache.memory_values[i].copy_(split[1])

    def logits(self, cache: CopyCache, state: SearchState, extent: int) -> Tensor:
        model = self.model
        with self.cast():
            x = model.shared(state.last) * self.config.d_model**0.5
            angles = tuple(angle.index_select(0, cache.position) for angle in self.angles)
            mask = torch.where(cache.seen(extent), 0.0, float("-inf")).to(self.compute)
            source_mask = (cache.source_ids != IGNORED)[:, None, None, :]
            for i in range(len(model.layers)):
                x = self._layer(i, x, cache, angles, mask, source_mask)
            x = model.norm(x)
            features = features_of_beams(cache.source_ids, state.running[:, :, :extent], cache.position)
            copy, log_weights = model.pointer(x, cache.copy_keys, features, source_mask)
            vocabulary = F.linear(x, model.shared.weight).float()
        return mixture_log_probabilities(vocabulary, copy, log_weights, cache.source_ids).flatten(0, 1)

    def _layer(self, i: int, x: Tensor, cache: CopyCache, angles: Any, mask: Tensor, source_mask: Tensor) -> Tensor:
        """[B, K, D] residual stream after a layer."""
        layer, heads = self.model.layers[i], self.config.num_heads
        own, cross = layer.self_attention, layer.cross_attention
        split = own.qkv(layer.self_norm(x)).view(*x.shape[:2], 3, heads, -1)
        query, key = rotate(split[:, :, :2], angles).flatten(3).unbind(2)
        value = split[:, :, 2].flatten(2)
        mixed = through_cache(
            query, key, value, cache.keys[i], cache.values[i], cache.position, mask, heads, split.shape[-1] ** -0.5
        )
        x = x + own.output(mixed.view(x.shape))
        query = cross.query(layer.cross_norm(x)).view(*x.shape[:2], heads, -1).transpose(1, 2)
        mixed = attend(query, cache.memory_keys[i], cache.memory_values[i], source_mask)
        x = x + cross.output(mixed.transpose(1, 2).reshape(x.shape))
        return x + layer.feed_forward(x)

"""What both throughput benchmarks share: published model shapes with random weights, documents of known lengths."""

from __future__ import annotations

import gc
import json
import math
from typing import Any

import numpy as np
import torch

T5_SHAPES = {
    "t5-tiny": (32, 16, 64, 2, 2, False),
    "t5-small": (512, 64, 2048, 6, 8, False),
    "t5-base": (768, 64, 3072, 12, 12, False),
    "flan-t5-base": (768, 64, 2048, 12, 12, True),
    "t5-large": (1024, 64, 4096, 24, 16, False),
}
"""d_model, d_kv, d_ff, layers of each stack, heads, gated."""
BART_SHAPES = {"bart-tiny": (32, 64, 2, 2), "bart-base": (768, 3072, 6, 12), "bart-large": (1024, 4096, 12, 16)}
"""d_model, feed-forward width, layers of each stack, heads."""
MODELS = [*T5_SHAPES, *BART_SHAPES]

# mean and sigma (of the logarithm) of tokens a document and a summary, before the caps of transformers' example script
LENGTHS = {
    "cnn": ((900, 0.50), (68, 0.35)),
    "xsum": ((500, 0.65), (27, 0.25)),
    "tiny": ((40, 0.60), (9, 0.40)),
}
LONGEST_SOURCE, LONGEST_TARGET = 1024, 128


def build(name: str, device: torch.device) -> Any:
    """A model of transformers with random float32 weights, dropout as published (0.1 everywhere it is)."""
    import transformers

    tiny = name.endswith("tiny")
    torch.manual_seed(0)
    if name in T5_SHAPES:
        d_model, d_kv, d_ff, layers, heads, gated = T5_SHAPES[name]
        config: Any = transformers.T5Config(
            vocab_size=199 if tiny else 32128,
            d_model=d_model,
            d_kv=d_kv,
            d_ff=d_ff,
            num_layers=layers,
            num_decoder_layers=layers,
            num_heads=heads,
            dropout_rate=0.1,
            feed_forward_proj="gated-gelu" if gated else "relu",
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
        kind: Any = transformers.T5ForConditionalGeneration
    else:
        d_model, d_ff, layers, heads = BART_SHAPES[name]
        config = transformers.BartConfig(
            vocab_size=199 if tiny else 50265,
            max_position_embeddings=LONGEST_SOURCE,
            d_model=d_model,
            encoder_layers=layers,
            decoder_layers=layers,
            encoder_ffn_dim=d_ff,
            decoder_ffn_dim=d_ff,
            encoder_attention_heads=heads,
            decoder_attention_heads=heads,
            dropout=0.1,
            attention_dropout=0.1,
            activation_dropout=0.1,
            pad_token_id=1,
            bos_token_id=0,
            eos_token_id=2,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
        )
        kind = transformers.BartForConditionalGeneration
    with device:
        return kind(config)


def lengths(corpus: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """[count] tokens of sources and of targets, capped."""
    rng = np.random.default_rng(seed)
    columns = []
    caps = ((16, LONGEST_SOURCE), (4, LONGEST_TARGET)) if corpus != "tiny" else ((4, 64), (2, 16))
    for (mean, sigma), (least, most) in zip(LENGTHS[corpus], caps, strict=True):
        drawn = rng.lognormal(math.log(mean) - sigma * sigma / 2, sigma, count)
        columns.append(np.clip(np.rint(drawn), least, most).astype(np.int64))
    return columns[0], columns[1]


class Documents(torch.utils.data.Dataset[tuple[np.ndarray, np.ndarray]]):
    """Random ids of given lengths, frequent ones frequent (Zipf's law), each closed by the end token."""

    def __init__(
        self, source_lengths: np.ndarray, target_lengths: np.ndarray, vocabulary: int, end: int, seed: int = 1
    ) -> None:
        self.source_lengths, self.target_lengths = source_lengths, target_lengths
        total = int(source_lengths.sum() + target_lengths.sum())
        uniform = np.random.default_rng(seed).random(total)
        self.ids = (4 + np.exp(uniform * math.log(vocabulary - 5))).astype(np.int64).clip(4, vocabulary - 1)
        self.starts = np.concatenate([[0], np.cumsum(source_lengths + target_lengths)])
        self.ids[self.starts[1:] - 1] = end
        self.ids[self.starts[:-1] + source_lengths - 1] = end

    def __len__(self) -> int:
        return len(self.source_lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        start, middle, stop = (
            self.starts[index],
            self.starts[index] + self.source_lengths[index],
            self.starts[index + 1],
        )
        return self.ids[start:middle], self.ids[middle:stop]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in str(error).lower()


def emit(**row: Any) -> None:
    """One JSON line, floats to four digits."""
    print(
        json.dumps({key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}),
        flush=True,
    )

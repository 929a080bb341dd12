"""Beam search over many documents, batched by length.

Shapes: B documents of a batch, S source tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from summarizer.data.collate import padded
from summarizer.errors import HardwareError

FALLBACK_NEW_TOKENS = 128


class NoRepeatNGramAfterPrompt(LogitsProcessor):
    """No n-gram twice in the summary. The stock rule also counts the prompt, which would forbid to quote the document."""

    def __init__(self, size: int, prompt_length: int) -> None:
        self.rule, self.prompt_length = NoRepeatNGramLogitsProcessor(size), prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self.rule(input_ids[:, self.prompt_length :], scores)


def batches(lengths: Sequence[int], batch_tokens: int, num_beams: int) -> Iterator[list[int]]:
    """Row numbers, longest first, so that what does not fit fails at once; padded tokens x beams stay within the budget."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // (max(1, lengths[order[start]]) * num_beams))
        yield order[start : start + count]
        start += count


def summarize_batches(
    model: Any,
    source_ids: Sequence[np.ndarray],
    *,
    settings: Any,
    tokenizer: Any,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """Token ids of one summary a document, in the order given, without start, end, padding or prompt.

    Args:
        model: an encoder-decoder or a decoder-only model of transformers, on its device, in eval mode.
        source_ids: one int array [S] a document; a decoder-only model continues it.
        settings: config.GenerationConfig.
        tokenizer: gives the padding id, and the end where the model names none.
        progress: called with (documents done, of how many) after each batch.

    Raises:
        HardwareError: the device's memory does not suffice.
    """
    summaries: list[list[int]] = [[] for _ in source_ids]
    options = generation_options(model, settings, tokenizer)
    done = 0
    for rows in batches([len(ids) for ids in source_ids], settings.batch_tokens, settings.num_beams):
        try:
            written = generate(model, [source_ids[i] for i in rows], options)
        except (
            RuntimeError
        ) as error:  # torch.OutOfMemoryError is one; the CPU's and Apple's allocators raise it plainly
            if not is_out_of_memory(error):
                raise
            longest = max(len(source_ids[i]) for i in rows)
            raise HardwareError(
                f"out of memory while summarizing {len(rows)} documents of up to {longest} tokens with "
                f"{settings.num_beams} beams: lower generation.batch_tokens (now {settings.batch_tokens}) or generation.num_beams."
            ) from error
        for i, ids in zip(rows, written, strict=True):
            summaries[i] = ids
        done += len(rows)
        if progress is not None:
            progress(done, len(source_ids))
    return summaries


def generation_options(model: Any, settings: Any, tokenizer: Any) -> Any:
    """The model's own generation config with this job's settings in it."""
    options = copy.deepcopy(model.generation_config)
    options.max_length = options.min_length = None  # those of a published model would win over ours
    options.max_new_tokens = settings.max_new_tokens or getattr(
        model.config, "max_target_positions", FALLBACK_NEW_TOKENS
    )
    options.min_new_tokens = settings.min_new_tokens
    options.num_beams = settings.num_beams
    options.length_penalty = settings.length_penalty
    options.no_repeat_ngram_size = settings.no_repeat_ngram_size
    options.do_sample = False
    options.temperature = options.top_p = options.top_k = None
    options.pad_token_id = tokenizer.pad_token_id
    if options.eos_token_id is None:
        options.eos_token_id = tokenizer.eos_token_id
    return options


@torch.inference_mode()
def generate(model: Any, sources: Sequence[np.ndarray], options: Any) -> list[list[int]]:
    """One forward search; sources [B][S], longest first or not."""
    continues_prompt = not model.config.is_encoder_decoder
    device = next(model.parameters()).device
    input_ids = padded(sources, options.pad_token_id, left=continues_prompt)
    lengths = torch.tensor([len(source) for source in sources])
    mask = (torch.arange(input_ids.shape[1])[None, :] < lengths[:, None]).long()
    more: dict[str, Any] = {}
    if continues_prompt:
        mask = mask.flip(1)
        if options.no_repeat_ngram_size:
            rule = NoRepeatNGramAfterPrompt(options.no_repeat_ngram_size, input_ids.shape[1])
            options = copy.copy(options)
            options.no_repeat_ngram_size = 0
            more["logits_processor"] = LogitsProcessorList([rule])
    if model.config.model_type == "led":
        more["global_attention_mask"] = torch.zeros_like(mask).index_fill_(1, torch.tensor(0), 1).to(device)
    written = model.generate(
        input_ids=input_ids.to(device), attention_mask=mask.to(device), generation_config=options, **more
    )
    written = written[:, input_ids.shape[1] if continues_prompt else 1 :]
    ends = options.eos_token_id if isinstance(options.eos_token_id, list) else [options.eos_token_id]
    return [until_end(row, {options.pad_token_id, *ends}) for row in written.tolist()]


def until_end(row: Sequence[int], ends: Container[int]) -> list[int]:
    """What stands before the first end or padding: a row that ends before the longest of its batch is filled up."""
    return list(takewhile(lambda token: token not in ends, row))


def is_out_of_memory(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "not enough memory" in said

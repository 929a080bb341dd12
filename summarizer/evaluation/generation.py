"""Beam search over many documents, batched by length, and the choice among the beams.

Shapes: B documents of a batch, S source tokens.
"""

from __future__ import annotations

import copy
import logging
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from functools import cache
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.logits_process import NoRepeatNGramLogitsProcessor

from summarizer.data.collate import padded
from summarizer.errors import HardwareError
from summarizer.evaluation.minimum_bayes_risk import least_risk
from summarizer.evaluation.workers import Workers
from summarizer.packing.copy_decoding import copies
from summarizer.packing.generation import PackedGenerator, generation_obstacle

log = logging.getLogger(__name__)

FALLBACK_NEW_TOKENS = 128
PACKED_FROM = 256  # documents; fewer are done before the steps of a packed search are compiled and recorded (4 to 14 s)
MOST_SLOTS = 256
Finished = Callable[[int, list[list[int]]], None]


class NoRepeatNGramAfterPrompt(LogitsProcessor):
    """No n-gram twice in the summary. The stock rule counts the prompt too: the document could not be quoted."""

    def __init__(self, size: int, prompt_length: int) -> None:
        self.rule, self.prompt_length = NoRepeatNGramLogitsProcessor(size), prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        return self.rule(input_ids[:, self.prompt_length :], scores)


def batches(lengths: Sequence[int], batch_tokens: int, num_beams: int) -> Iterator[list[int]]:
    """Row numbers, longest first: what does not fit fails at once. Padded tokens x beams stay within the budget."""
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
    batch_tokens: int,
    tokenizer: Any,
    progress: Callable[[int, int], None] | None = None,
    rouge_tokenizer: str | None = None,
) -> list[list[int]]:
    """Token ids of one summary a document, in the order given, without start, end, padding or prompt.

    Args:
        model: an encoder-decoder or a decoder-only model of transformers, on its device, in eval mode.
        source_ids: one int array [S] a document; a decoder-only model continues it.
        settings: config.GenerationConfig.
        batch_tokens: source tokens x beams decoded together, at most.
        tokenizer: gives the padding id, and the end where the model names none.
        progress: called with (documents done, of how many) after each batch.
        rouge_tokenizer: how the choice among beams counts words, see `minimum_bayes_risk.least_risk`.

    Raises:
        HardwareError: the device's memory does not suffice for one document.
    """
    order: list[int] = []
    with Workers(0, beside=on_card(model)) as workers:

        def choose(row: int, hypotheses: list[list[int]]) -> None:
            order.append(row)
            workers.submit(chosen, hypotheses, tokenizer, rouge_tokenizer, rows=1)

        search(
            model, source_ids, settings=settings, batch_tokens=batch_tokens, tokenizer=tokenizer, progress=progress,
            finished=choose,
        )  # fmt: skip
        written = dict(zip(order, workers.results(), strict=True))
    return [written[row] for row in range(len(source_ids))]


def on_card(model: Any) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")


def search(
    model: Any,
    source_ids: Sequence[np.ndarray],
    *,
    settings: Any,
    batch_tokens: int,
    tokenizer: Any,
    finished: Finished,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """All hypotheses of each document, as the batches that hold them are done; arguments and errors as in `summarize_batches`.

    Args:
        finished: called once for each document, with its number and its hypotheses, the best first. With
            `settings.reranking` there are several, among which `least_risk` is to choose.
    """
    options = generation_options(model, settings, tokenizer)
    given: set[int] = set()

    def give(row: int, hypotheses: list[list[int]]) -> None:
        if row not in given:  # a search that failed half-way has given some before it is begun again
            given.add(row)
            finished(row, hypotheses)

    packed = wants_packed_search(model, options, settings.packing, len(source_ids))
    if not (packed and search_packed(model, source_ids, settings, options, batch_tokens, progress, give)):
        search_padded(model, source_ids, settings, options, batch_tokens, progress, give)


def chosen(hypotheses: Sequence[list[int]], tokenizer: Any, rouge_tokenizer: str | None) -> list[int]:
    """Of one document's hypotheses, the best first, the first or the one of least risk; all but one are given for that only."""
    if len(hypotheses) == 1:
        return hypotheses[0]
    texts = tokenizer.batch_decode(list(hypotheses), skip_special_tokens=True)
    return hypotheses[least_risk([text.strip() for text in texts], rouge_tokenizer)]


def search_padded(
    model: Any,
    source_ids: Sequence[np.ndarray],
    settings: Any,
    options: Any,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None,
    finished: Finished,
) -> None:
    """Each document's hypotheses by transformers' generate(), documents of like length together; smaller batches if it must be."""
    waiting = deque(batches([len(ids) for ids in source_ids], batch_tokens, settings.num_beams))
    done = 0
    while waiting:
        rows = waiting.popleft()
        try:
            # layers compiled for training would be compiled anew for each length of the cache
            with search_precision(model, settings.precision), torch.compiler.set_stance("force_eager"):
                written = generate(model, [source_ids[i] for i in rows], options)
        except RuntimeError as error:  # the CPU's and Apple's allocators raise it plainly
            if not is_out_of_memory(error):
                raise
            longest = max(len(source_ids[i]) for i in rows)
            if len(rows) == 1:
                raise HardwareError(
                    f"out of memory while summarizing one document of {longest} tokens with {settings.num_beams} beams: "
                    "lower model.max_source_tokens or generation.num_beams."
                ) from error
            # the rest of this search fits no better
            limit = len(rows) // 2 * longest * settings.num_beams
            left = [*rows, *(row for batch in waiting for row in batch)]
            shares = batches([len(source_ids[i]) for i in left], limit, settings.num_beams)
            waiting = deque([left[i] for i in share] for share in shares)
            warn_once(f"out of memory: summaries are written {len(rows) // 2} at a time, more slowly; "
                      f"hardware.generation_tokens={limit} starts like that")  # fmt: skip
            free_memory()
            continue
        for i, hypotheses in zip(rows, written, strict=True):
            finished(i, hypotheses)
        done += len(rows)
        if progress is not None:
            progress(done, len(source_ids))


def wants_packed_search(model: Any, options: Any, setting: str, documents: int) -> bool:
    """Whether to search over a packed encoder (`summarizer.packing.generation`).

    Args:
        setting: auto packs on CUDA, for as many documents as repay the recording of its steps, and for a copy transformer on a
            processor; always packs wherever the model and the search allow it; never does not.

    A model or a search that it does not serve is left to generate(), with one warning that names the cost.
    """
    device = next(model.parameters()).device
    if not documents or not model.config.is_encoder_decoder or setting == "never":
        return False
    repays = documents >= PACKED_FROM if device.type == "cuda" else device.type == "cpu" and copies(model)
    if setting == "auto" and not repays:
        return False
    obstacle = generation_obstacle(model, options)
    if any(isinstance(part, FSDPModule) for part in model.modules()):
        obstacle = "its weights are divided over the devices"
    if obstacle is not None and (setting == "always" or device.type == "cuda"):
        warn_once(f"summaries are written by generate(), several times slower on a GPU: {obstacle}")
    return obstacle is None


def search_packed(
    model: Any,
    source_ids: Sequence[np.ndarray],
    settings: Any,
    options: Any,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None,
    finished: Finished,
) -> bool:
    """Each document's hypotheses by the packed search; False, with a warning, when this machine cannot run it."""
    ends = stop_ids(options)

    def give(row: int, beams: list[list[int]]) -> None:
        finished(row, [until_end(ids, ends) for ids in beams])

    longest = max(len(ids) for ids in source_ids)
    # it keeps each document once, not once a beam: half of generate()'s memory, measured
    slots = min(MOST_SLOTS, max(1, 2 * batch_tokens // (longest * settings.num_beams)))
    slots = 1 << (min(slots, 2 * len(source_ids) - 1).bit_length() - 1)
    while True:
        try:
            generator = PackedGenerator(
                model, options, slots=slots, longest_source=longest,
                compute=torch.bfloat16 if settings.precision == "bf16-mixed" else None,
            )  # fmt: skip
            generator.hypotheses(source_ids, progress, give)
            return True
        except RuntimeError as error:
            if is_out_of_memory(error) and slots > 1:
                slots //= 2
                warn_once("out of memory: fewer documents are searched over at a time, more slowly; lower "
                          "hardware.generation_tokens to start like that")  # fmt: skip
                free_memory()
                continue
            reason = " ".join(str(error).split())[:200]
            warn_once(f"summaries are written by generate(), several times slower: {reason}")
            return False


def search_precision(model: Any, precision: str) -> Any:
    """Autocast for `generation.precision`."""
    device = next(model.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed")


def free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@cache
def warn_once(text: str) -> None:
    log.warning("%s", text)


def generation_options(model: Any, settings: Any, tokenizer: Any) -> Any:
    """The model's own generation config with this job's settings in it."""
    options = copy.deepcopy(model.generation_config)
    options.max_length = options.min_length = None  # those of a published model would win over ours
    options.max_new_tokens = settings.max_new_tokens or getattr(
        model.config, "max_target_positions", FALLBACK_NEW_TOKENS
    )
    options.min_new_tokens = settings.min_new_tokens
    options.num_beams = settings.num_beams
    options.num_return_sequences = settings.num_beams if settings.reranking == "mbr" else 1
    options.length_penalty = settings.length_penalty
    options.no_repeat_ngram_size = settings.no_repeat_ngram_size
    options.do_sample = False
    options.temperature = options.top_p = options.top_k = None
    options.pad_token_id = tokenizer.pad_token_id
    if options.eos_token_id is None:
        options.eos_token_id = tokenizer.eos_token_id
    return options


@torch.inference_mode()
def generate(model: Any, sources: Sequence[np.ndarray], options: Any) -> list[list[list[int]]]:
    """Of one search the hypotheses of each document, the best first; sources [B][S], longest first or not."""
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
    hypotheses = [until_end(row, stop_ids(options)) for row in written.tolist()]
    count = options.num_return_sequences
    return [hypotheses[i : i + count] for i in range(0, len(hypotheses), count)]


def stop_ids(options: Any) -> set[int]:
    ends = options.eos_token_id if isinstance(options.eos_token_id, list) else [options.eos_token_id]
    return {options.pad_token_id, *ends}


def until_end(row: Sequence[int], ends: Container[int]) -> list[int]:
    """What stands before the first end or padding: a row that ends before the longest of its batch is filled up."""
    return list(takewhile(lambda token: token not in ends, row))


def is_out_of_memory(error: RuntimeError) -> bool:
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "not enough memory" in said

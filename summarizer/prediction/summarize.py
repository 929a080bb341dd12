"""Documents of any length through a model of limited length."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from summarizer.config import Architecture
from summarizer.data.encoding import CHARACTERS_PER_TOKEN, Encoding, encode
from summarizer.evaluation.baselines import sentences
from summarizer.evaluation.generation import summarize_batches
from summarizer.prediction.inputs import Document

log = logging.getLogger(__name__)

MINIMUM_WINDOW = 8  # tokens, however long the prefix is
CHUNK = 256  # documents tokenized and summarized together; the first results come after so many


@dataclass(frozen=True)
class Prediction:
    id: str
    summary: str
    truncated: bool
    """The end of the document was not read."""
    windows: int
    jsonl: bool = False


def predict_texts(
    model: Any, tokenizer: Any, documents: Iterable[Document], config: Any, rouge_tokenizer: str | None = None
) -> Iterator[Prediction]:
    """One summary per document, in order.

    Args:
        rouge_tokenizer: how the choice among beams counts words, so that it is that of a job's figures; None: as fits each text.

    Raises:
        HardwareError: out of memory.
    """
    model.eval()
    limit = config.model.max_source_tokens
    remaining = iter(documents)
    while chunk := list(islice(remaining, CHUNK)):
        parts: list[np.ndarray] = []
        counts, cut = [], []
        for document in chunk:
            texts, long = fit(tokenizer, document.text, config.model, config.predict.long_input)
            if long and config.predict.long_input == "truncate":
                log.warning(
                    "%s is longer than the model reads (%d tokens); its end is left out "
                    "(predict.long_input=windows reads all).",
                    document.id, limit,
                )  # fmt: skip
            parts += source_ids(tokenizer, texts, config.model)
            counts.append(len(texts))
            cut.append(long and config.predict.long_input == "truncate")
        written = summarize_batches(
            model,
            parts,
            settings=config.generation,
            tokenizer=tokenizer,
            batch_tokens=config.hardware.generation_tokens,
            rouge_tokenizer=rouge_tokenizer,
        )
        summaries = iter(tokenizer.batch_decode(written, skip_special_tokens=True))
        for document, count, truncated in zip(chunk, counts, cut, strict=True):
            joined = " ".join(text.strip() for text in islice(summaries, count))
            yield Prediction(document.id, joined, truncated, count, document.jsonl)


def source_ids(tokenizer: Any, texts: Sequence[str], model: Any) -> list[np.ndarray]:
    """Ids of the texts as in training: prefix, suffix and special tokens included."""
    encoding = Encoding(
        model.max_source_tokens, model.max_target_tokens, model.source_prefix, model.source_suffix,
        causal=model.architecture == Architecture.causal_lora,
    )  # fmt: skip
    rows = encode({"document": texts, "summary": [""] * len(texts)}, tokenizer=tokenizer, encoding=encoding)["source"]
    return [np.asarray(row, dtype=np.int32) for row in rows]


def length(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])


def is_long(tokenizer: Any, text: str, limit: int) -> bool:
    """More than `limit` tokens; a text of megabytes is not tokenized to find out."""
    return len(text) > limit * CHARACTERS_PER_TOKEN or length(tokenizer, text) > limit


def fit(tokenizer: Any, text: str, model: Any, long_input: str) -> tuple[list[str], bool]:
    """The texts to summarize for one document, and whether it is longer than the model reads."""
    around = [part for part in (model.source_prefix, model.source_suffix) if part]
    limit = max(MINIMUM_WINDOW, model.max_source_tokens - sum(length(tokenizer, part) for part in around))
    if not is_long(tokenizer, text, limit):
        return [text], False
    return ([text], True) if long_input == "truncate" else (windows(tokenizer, text, limit), True)


def windows(tokenizer: Any, text: str, limit: int) -> list[str]:
    """Runs of whole sentences within `limit` tokens; each window starts with the last sentence of the one before. A
    sentence longer than that is cut at words."""
    pieces = [piece for sentence in sentences(text) for piece in split_long(tokenizer, sentence, limit)]
    sizes = [length(tokenizer, piece) for piece in pieces]
    found: list[str] = []
    current: list[int] = []
    for i, size in enumerate(sizes):
        if current and sum(sizes[j] for j in current) + size > limit:
            found.append(" ".join(pieces[j] for j in current))
            current = [current[-1]] if sizes[current[-1]] + size <= limit else []
        current.append(i)
    return [*found, " ".join(pieces[j] for j in current)]


def split_long(tokenizer: Any, sentence: str, limit: int) -> list[str]:
    if not is_long(tokenizer, sentence, limit) or len(sentence) == 1:
        return [sentence]
    words = sentence.split()
    if len(words) == 1:
        middle = len(sentence) // 2
        halves = [sentence[:middle], sentence[middle:]]
    else:
        halves = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    return [piece for half in halves if half for piece in split_long(tokenizer, half, limit)]

"""task=prepare: corpus and tokenizer fetched or built, documents tokenized; what every other task starts with."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from summarizer.config import Architecture, Task
from summarizer.data.carried import carried, note_tokens
from summarizer.data.corpus import Corpus, load_corpus
from summarizer.data.store import built_once, cache_root
from summarizer.data.tokenized import TokenizedSplit, TokenizedStream, tokenize_corpus
from summarizer.errors import DataError
from summarizer.hardware import resolve, set_threads, usable_cores
from summarizer.models.loading import check_model, load_saved_tokenizer, load_tokenizer, save_tokenizer
from summarizer.preconditions import needed_splits
from summarizer.run import Run
from summarizer.storage.prepared import get_prepared, put_prepared

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
TOKENIZERS = "tokenizers"  # folder of the cache
VOCABULARY = "1"  # of how one is learned; another value learns anew
ROWS_OF_A_VOCABULARY = 1_000_000  # rows that a tokenizer learns from, at most


@dataclass(frozen=True)
class Prepared:
    """What training reads: the corpus as text, its tokenizer, its token ids."""

    corpus: Corpus
    tokenizer: PreTrainedTokenizerBase
    splits: dict[str, TokenizedSplit | TokenizedStream]


def prepare_data(
    config: DictConfig,
    splits: Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Prepared:
    """Load, tokenize and cache the named splits.

    Args:
        splits: None takes those that the job reads: to train on, to validate on and to score.
        tokenizer: None takes the model's own, trained on the train split where the model has none yet.

    Raises:
        DataError, HubError, ModelError: in one sentence.
    """
    splits = needed_splits(config) if splits is None else splits
    if config.storage is not None and config.task != Task.prepare:
        get_prepared(config)
    if config.task in (Task.train, Task.prepare):
        check_model(config.model, download=config.task == Task.train)
    corpus = load_corpus(config.data, splits)
    if corpus.notice:
        log.info("%s", corpus.notice)
    vocabulary: list[Path] = []
    if tokenizer is None:
        tokenizer, vocabulary = model_tokenizer(config, corpus)
    tokenized = tokenize_corpus(
        corpus,
        tokenizer,
        max_source_tokens=config.model.max_source_tokens,
        max_target_tokens=config.model.max_target_tokens,
        source_prefix=config.model.source_prefix,
        source_suffix=config.model.source_suffix,
        causal=config.model.architecture == Architecture.causal_lora,
        workers=min(config.hardware.workers, usable_cores()) if config.hardware.workers > 0 else usable_cores(),
        cache_dir=config.data.cache_dir,
    )
    for name in splits:
        if name not in tokenized:
            raise DataError(
                f"data={config.data.name} has no {name} split: name its file or split with data.{name}_file or data.{name}_split."
            )
    note_tokens(
        config, vocabulary + [split.folder for split in tokenized.values() if isinstance(split, TokenizedSplit)]
    )
    return Prepared(corpus, tokenizer, tokenized)


def stored_split(prepared: Prepared, name: str) -> TokenizedSplit:
    """A split that is scored: only training rows are streamed, and a stream is never scored (`preconditions.splits_exist`)."""
    split = prepared.splits[name]
    assert isinstance(split, TokenizedSplit), name
    return split


def scoring_notices(splits: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """What to know about the scores of these splits before anything is spent on them."""
    from summarizer.evaluation.words import notices

    return [
        notice
        for name in dict.fromkeys(names)
        if hasattr(splits.get(name), "__len__")
        for notice in notices(name, [splits[name].summary(i) for i in range(len(splits[name]))])
    ]


def model_tokenizer(config: DictConfig, corpus: Corpus) -> tuple[PreTrainedTokenizerBase, list[Path]]:
    """The model's own tokenizer, and the folder of the cache that keeps it.

    One that is learned from the train split is learned once for these rows, however many jobs and processes need it. That
    of a stream is not kept: nobody knows all of its rows.
    """
    rows, model = corpus.splits.get("train"), config.model
    if model.architecture != Architecture.copy_transformer or not hasattr(rows, "__len__"):
        return load_tokenizer(model, lambda: training_texts(corpus)), []
    described = [VOCABULARY, corpus.fingerprint("train"), model.shape.vocab_size]
    mark = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
    if (came := carried(f"{TOKENIZERS}/{mark}")) is not None:
        return load_saved_tokenizer(came / "tokenizer"), []

    def learn(into: Path) -> dict[str, Any]:
        log.info("learning a tokenizer of %s tokens ...", f"{model.shape.vocab_size:,}")
        save_tokenizer(load_tokenizer(model, lambda: training_texts(corpus)), into / "tokenizer")
        return {"tokens": model.shape.vocab_size}

    folder = cache_root(config.data.cache_dir) / TOKENIZERS / mark
    built_once(folder, learn)
    return load_saved_tokenizer(folder / "tokenizer"), [folder]


def job_tokenizer(run: Run) -> PreTrainedTokenizerBase | None:
    """The tokenizer that a job's checkpoints were trained with; None while there is nothing to continue from."""
    return load_saved_tokenizer(run.tokenizer) if run.has_progress() and run.tokenizer.is_dir() else None


def training_texts(corpus: Corpus) -> Iterator[str]:
    """Documents and summaries of the train split, one after the other; of a stream, its beginning."""
    for row in itertools.islice(corpus.splits["train"], ROWS_OF_A_VOCABULARY):
        yield row["document"]
        yield row["summary"]


def prepare(run: Run, config: DictConfig, overrides: list[str]) -> None:
    """Do all that a training with the same settings would have to do before its first step.

    The hardware that is named need not be here: what is prepared travels with the job (`summarizer.data.carried`).
    """
    if config.hardware.accelerator == "auto":
        resolve(config, overrides)
    set_threads(config.trainer.threads)
    run.write_config(config, overrides)
    prepared = prepare_data(config)
    for name, split in prepared.splits.items():
        if isinstance(split, TokenizedStream):
            print(f"{name}: streamed, tokenized as it is read")
            continue
        tokens = int(split.source_lengths.sum() + split.target_lengths.sum())
        print(f"{name}: {len(split):,} pairs, {tokens:,} tokens")
    if config.storage is not None:
        put_prepared(config)

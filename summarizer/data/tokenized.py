"""Text -> token ids on disk: every document is tokenized once, and read back without copying.

Token ids lie in Arrow files in the user's cache, under a fingerprint of the rows, the tokenizer, the lengths and the
prefix. They are memory-mapped: the operating system holds as much of them as it can, the process nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from summarizer.data.carried import carried
from summarizer.data.corpus import Corpus, fingerprint_of
from summarizer.data.encoding import Encoding, encode
from summarizer.data.files import first_line
from summarizer.data.progress import quiet_datasets
from summarizer.data.store import built_once, cache_root
from summarizer.errors import DataError, SummarizerError
from summarizer.hub import causes

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

TOKENS = "tokenized"  # folder of the cache
LAYOUT = "1"  # of the files; another value tokenizes anew
ROWS_PER_BATCH = 256  # few, because a document may be megabytes
ROWS_PER_WORKER = 2000  # fewer are tokenized sooner than another process is started

Ids = np.ndarray


def tokenize_corpus(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_source_tokens: int,
    max_target_tokens: int,
    source_prefix: str = "",
    source_suffix: str = "",
    causal: bool = False,
    workers: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
) -> dict[str, TokenizedSplit | TokenizedStream]:
    """Token ids of every split; a split that has been tokenized alike before is only opened.

    Args:
        max_source_tokens, max_target_tokens: longer ones are cut, special tokens included.
        source_prefix, source_suffix: text around each document; the suffix survives cutting.
        causal: for decoder-only models, which read source and target as one sequence: see `encoding.encode`.
        workers: processes that tokenize; -1 takes every core.
        cache_dir: None is the user's cache.

    Raises:
        DataError: a split without rows.
        OutputError: the cache cannot be written.
    """
    encoding = Encoding(max_source_tokens, max_target_tokens, source_prefix, source_suffix, causal)
    root = cache_root(cache_dir) / TOKENS
    tokenized: dict[str, TokenizedSplit | TokenizedStream] = {}
    for name, rows in corpus.splits.items():
        if not hasattr(rows, "__len__"):
            tokenized[name] = TokenizedStream(rows, tokenizer, encoding)
            continue
        if not len(rows):
            raise DataError(
                f"the {name} split of {corpus.name} has no rows: check the files, and data.max_{name}_samples."
            )
        described = [LAYOUT, corpus.fingerprint(name), tokenizer_fingerprint(tokenizer), encoding.described()]
        mark = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:32]
        if (came := carried(f"{TOKENS}/{mark}")) is not None:
            tokenized[name] = TokenizedSplit(came, rows)
            continue
        folder = root / mark
        built_once(folder, lambda into, rows=rows, name=name: _tokenize(rows, name, tokenizer, encoding, workers, into))  # type: ignore[misc]
        tokenized[name] = TokenizedSplit(folder, rows)
    return tokenized


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The same for tokenizers that give the same ids, whatever they were used for before."""
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        state["truncation"] = state["padding"] = None  # left over from the last call
    else:
        state = sorted(tokenizer.get_vocab().items())
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    content = json.dumps([type(tokenizer).__name__, state, special], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _tokenize(
    rows: Dataset, name: str, tokenizer: PreTrainedTokenizerBase, encoding: Encoding, workers: int, into: Path
) -> dict[str, Any]:
    from datasets import Features, Value
    from datasets import List as ListOf

    from summarizer.hardware import usable_cores

    log.info("tokenizing %s documents of %s ...", f"{len(rows):,}", name)
    workers = min(workers if workers > 0 else usable_cores(), max(1, len(rows) // ROWS_PER_WORKER))
    features = Features({"source": ListOf(Value("int32")), "target": ListOf(Value("int32"))})
    # the tokenizer's own threads and several processes would only fight for the cores
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if workers == 1 else "false"
    try:
        with quiet_datasets():
            rows.select_columns(["document", "summary"]).map(
                encode,
                batched=True,
                batch_size=ROWS_PER_BATCH,
                writer_batch_size=ROWS_PER_BATCH,
                fn_kwargs={"tokenizer": tokenizer, "encoding": encoding},
                remove_columns=["document", "summary"],
                features=features,
                num_proc=workers if workers > 1 else None,
                cache_file_name=str(into / "tokens.arrow"),
                load_from_cache_file=False,
                # the folder is the cache; this name is never looked up
                new_fingerprint="tokenized",
                desc=f"tokenizing {name}",
            )
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
    return {"rows": len(rows), "split": name}


class TokenizedSplit:
    """Token ids of one split, straight from the memory-mapped Arrow buffers, beside the text they were made from."""

    def __init__(self, folder: Path, rows: Dataset) -> None:
        self.folder, self.rows = folder, rows
        import pyarrow as pa

        chunks: dict[str, list[tuple[Ids, Ids]]] = {"source": [], "target": []}
        for path in sorted(folder.glob("*.arrow")):
            table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
            for name, views in chunks.items():
                views += [(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in table[name].chunks]
        self._source, self._target = chunks["source"], chunks["target"]
        self.source_lengths, self.target_lengths = (
            np.concatenate([np.diff(offsets) for _, offsets in views]).astype(np.int32, copy=False)
            for views in (self._source, self._target)
        )
        """[rows] tokens of each source and target, int32."""
        self._starts = np.cumsum([0] + [len(offsets) - 1 for _, offsets in self._source])
        assert len(self) == len(rows), f"{folder} holds {len(self)} rows, not {len(rows)}"

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def fingerprint(self) -> str:
        """Of the rows, as `Corpus.fingerprint`."""
        return fingerprint_of(self.rows)

    def source(self, index: int) -> Ids:
        """[source tokens] int32, a read-only view."""
        return self._view(self._source, index)

    def target(self, index: int) -> Ids:
        """[target tokens] int32, a read-only view."""
        return self._view(self._target, index)

    def _view(self, chunks: list[tuple[Ids, Ids]], index: int) -> Ids:
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        chunk = int(np.searchsorted(self._starts, index, side="right")) - 1
        values, offsets = chunks[chunk]
        row = int(index - self._starts[chunk])
        return values[offsets[row] : offsets[row + 1]]

    def id(self, index: int) -> str:
        return str(self.rows[int(index)]["id"])

    def document(self, index: int) -> str:
        return str(self.rows[int(index)]["document"])

    def summary(self, index: int) -> str:
        return str(self.rows[int(index)]["summary"])

    def __reduce__(self) -> tuple[Any, ...]:
        # a copy for a worker process maps the files again instead of carrying their content
        return type(self), (self.folder, self.rows)


class TokenizedStream:
    """Token ids of a split that is not stored: tokenized as it is read, anew on every pass."""

    def __init__(self, rows: IterableDataset, tokenizer: PreTrainedTokenizerBase, encoding: Encoding) -> None:
        self.rows, self.tokenizer, self.encoding = rows, tokenizer, encoding

    @cached_property
    def fingerprint(self) -> str:
        """Of the rows, as `Corpus.fingerprint`."""
        return fingerprint_of(self.rows)

    def __iter__(self) -> Iterator[tuple[Ids, Ids]]:
        """Source and target of one row after the other, [tokens] int32."""
        for batch in self._batches():
            ids = encode(batch, tokenizer=self.tokenizer, encoding=self.encoding)
            for source, target in zip(ids["source"], ids["target"], strict=True):
                yield np.asarray(source, dtype=np.int32), np.asarray(target, dtype=np.int32)

    def _batches(self) -> Iterator[dict[str, list[str]]]:
        """Rows as they come; what ends them early is one sentence, whichever library says it.

        Raises:
            DataError: a row that is no pair, a file that breaks off, a hub or storage that went away.
        """
        read = 0
        try:
            for batch in self.rows.iter(batch_size=ROWS_PER_BATCH):
                yield batch
                read += len(batch["document"])
        except (SummarizerError, GeneratorExit):
            raise
        except Exception as error:
            cause = first_line(list(causes(error))[-1]).rstrip(".: ")
            raise DataError(
                f"the stream of training pairs broke off after {read:,} rows ({cause}): check its file there and the network, or "
                "store the pairs first with data.streaming=false."
            ) from error

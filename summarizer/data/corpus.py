"""Where pairs come from: one function that turns a `data` option into splits of the same three text columns."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from summarizer.data.carried import carried_corpus, note_corpus
from summarizer.data.progress import quiet_datasets
from summarizer.data.store import cache_root
from summarizer.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from summarizer.config import DataConfig

COLUMNS = ("id", "document", "summary")
SPLITS = ("train", "validation", "test")
ROWS_OF_A_STREAM = 256  # that tell it from another one
SAMPLE_SEED = 0  # of the choice of rows; not the run's seed, so that runs of several seeds see the same rows


@dataclass(frozen=True)
class Corpus:
    """Documents with their summaries.

    Attributes:
        name: of what was really loaded: `data=auto` gives debsum or docstrings.
        splits: each with exactly the string columns id, document and summary; a stream where `data.streaming` asks for it.
        notice: what the user should know about it, such as what `auto` chose and why.
    """

    name: str
    splits: Mapping[str, Dataset | IterableDataset]
    notice: str | None = None

    def fingerprint(self, split: str) -> str:
        """Changes whenever a row of the split does; the same in every process."""
        return fingerprint_of(self.splits[split])


def fingerprint_of(rows: Any) -> str:
    """Changes whenever a row does; of a stream, whenever its first rows or the sizes of its files do. Not where they lie."""
    if hasattr(rows, "__len__"):
        return str(rows._fingerprint)
    beginning = [sorted(row.items()) for row in itertools.islice(rows, ROWS_OF_A_STREAM)]
    content = json.dumps([getattr(rows, "_fingerprint", None), beginning], ensure_ascii=False)
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:32]


def load_corpus(cfg: DataConfig, splits: Sequence[str] = SPLITS, *, cache_dir: str | Path | None = None) -> Corpus:
    """Load the named splits, at most `max_<split>_samples` rows of each.

    Args:
        cache_dir: instead of the option's own and of the user's cache.

    Raises:
        DataError: a file, column, split or row that cannot be used, or a corpus that cannot be built here.
        HubError: the hub does not answer or lacks the data set.
        OutputError: the cache cannot be written.
    """
    cache = cache_root(cache_dir or cfg.cache_dir)
    with quiet_datasets():
        if cfg.kind in ("auto", "debsum", "docstrings"):
            name, files, notice = _built_files(cfg, cache)
            loaded = {split: _read_built(files[split]) for split in splits}
        elif cfg.kind == "files":
            from summarizer.data.files import load_files

            name, notice, loaded = cfg.name, None, load_files(cfg, splits, cache)
        elif cfg.kind == "hub":
            from summarizer.data.hub import load_hub

            name = cfg.name
            loaded, notice = load_hub(cfg, splits, cache)
        else:
            raise DataError(f"data.kind={cfg.kind} is not known; valid are auto, debsum, docstrings, hub and files.")
        chosen = {split: sample(dataset, _limit(cfg, split)) for split, dataset in loaded.items()}
    return Corpus(name, chosen, notice)


def sample(dataset: Any, limit: int | None) -> Any:
    """At most `limit` rows; a smaller sample is the beginning of a larger one, and neither is a file's head.

    Of a stream the first rows are taken: all of it would have to be read to choose among them.
    """
    if limit is None:
        return dataset
    if not hasattr(dataset, "__len__"):
        return dataset.take(limit)
    if limit >= len(dataset):
        return dataset
    order = np.random.default_rng(SAMPLE_SEED).permutation(len(dataset))
    mark = hashlib.sha256(f"{dataset._fingerprint} sample {SAMPLE_SEED} {limit}".encode()).hexdigest()[:16]
    return dataset.select(order[:limit], new_fingerprint=mark)


def _limit(cfg: DataConfig, split: str) -> int | None:
    limit: int | None = getattr(cfg, f"max_{split}_samples")
    return limit


def _built_files(cfg: DataConfig, cache: Path) -> tuple[str, dict[str, Path], str | None]:
    """Name, Parquet files and notice of a corpus that is built on this machine."""
    if (came := carried_corpus(cfg.kind)) is not None:
        name, folder = came
        return (
            name,
            {s: folder / f"{s}.parquet" for s in SPLITS},
            f"The corpus is {name}, as built where this job came from.",
        )
    why_not = ""
    if cfg.kind in ("auto", "debsum"):
        from summarizer.data.debsum.build import debsum

        try:
            built = debsum(cache, cfg.mirror)
        except DataError as error:
            if cfg.kind == "debsum":
                raise
            why_not = str(error)
        else:
            chosen = "data=auto: the corpus is debsum, one-line summaries of Debian package descriptions."
            note_corpus(cache, cfg.kind, "debsum", built.folder)
            notices = [chosen if cfg.kind == "auto" else None, built.notice]
            return "debsum", {s: built.file(s) for s in SPLITS}, " ".join(filter(None, notices)) or None
    from summarizer.data.docstrings.build import docstrings

    folder, _ = docstrings(cache)
    note_corpus(cache, cfg.kind, "docstrings", folder)
    notice = (
        f"data=auto: the corpus is docstrings of installed packages, because debsum could not be built: {why_not}"
        if why_not
        else None
    )
    return "docstrings", {s: folder / f"{s}.parquet" for s in SPLITS}, notice


def _read_built(path: Path) -> Dataset:
    """A built split, which is small enough to be held in memory (10 MB or so)."""
    import pyarrow.parquet as pq
    from datasets import Dataset
    from datasets.table import InMemoryTable

    content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Dataset(InMemoryTable(pq.read_table(path, columns=list(COLUMNS))), fingerprint=content)

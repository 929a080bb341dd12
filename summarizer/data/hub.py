"""Data sets of the Hugging Face Hub, in script-free form (`datasets` 4 and later refuse loading scripts)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer.data.corpus import sample
from summarizer.data.files import first_line, missing_column
from summarizer.errors import DataError, HubError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from summarizer.config import DataConfig

PAIRS = "1"  # of `as_pairs`; another value makes the pairs anew
LOCAL_COPY = (
    "check the network and HF_ENDPOINT; with a copy in the hub's cache set HF_HUB_OFFLINE=1, and files of your own are read with "
    "data=files data.train_file=..."
)


def load_hub(cfg: DataConfig, splits: Sequence[str], cache: Path) -> tuple[dict[str, Dataset | IterableDataset], str | None]:
    """The named splits as pairs, at most `max_<split>_samples` rows of each, and a notice of rows that were no pairs.

    Files are kept in the hub's own cache, or in `data.cache_dir` where that is set.

    Raises:
        HubError: the hub does not answer, or lacks the data set, its revision or its configuration.
        DataError: a split or column that is not there.
    """
    loaded: dict[str, Any] = {}
    dropped = []
    for split in splits:
        name = getattr(cfg, f"{split}_split")
        if not name:
            raise DataError(
                f"data={cfg.name} has no {split} split: set data.{split}_split, where a part of another will do, such as 'train[95%:]'."
            )
        streaming = cfg.streaming and split == "train"
        dataset = sample(_load(cfg, name, streaming, cache), getattr(cfg, f"max_{split}_samples"))
        pairs = as_pairs(dataset, cfg)
        loaded[split] = pairs
        if not streaming and len(pairs) < len(dataset):
            dropped.append(f"{len(dataset) - len(pairs):,} of {split}")
    notice = f"data={cfg.name}: rows without a document or summary were left out ({', '.join(dropped)})." if dropped else None
    return loaded, notice


def _load(cfg: DataConfig, split: str, streaming: bool, cache: Path) -> Any:
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    named = f"{cfg.hub_id}{f' at {cfg.revision}' if cfg.revision else ''}"
    if streaming and "[" in split:
        raise DataError(f"data.train_split={split} is a part of a split, which cannot be streamed: name a whole split, or set data.streaming=false.")
    try:
        return datasets.load_dataset(
            cfg.hub_id,
            cfg.config_name,
            revision=cfg.revision,
            split=split,
            streaming=streaming,
            cache_dir=str(cache / "hub") if cfg.cache_dir else None,
        )
    except DatasetNotFoundError as error:
        raise HubError(f"the hub has no data set {named}, or it needs HF_TOKEN: check data.hub_id and data.revision, or use a copy with data=files.") from error
    except ValueError as error:
        text = first_line(error)
        if "split" in text.lower():
            raise DataError(f"data={cfg.name}: {text.rstrip('.')}; set data.train_split, data.validation_split or data.test_split.") from error
        raise HubError(f"the hub's data set {named} cannot be read ({text.rstrip('.')}): {LOCAL_COPY}.") from error
    except RuntimeError as error:
        if "scripts are no longer supported" in str(error):
            raise HubError(
                f"the hub's data set {named} is a loading script, which is not run: set data.revision=refs/convert/parquet."
            ) from error
        raise HubError(f"the hub cannot be used for {named} ({first_line(error).rstrip('.')}): {LOCAL_COPY}.") from error
    except (OSError, HfHubHTTPError) as error:
        raise HubError(f"the hub cannot be reached for {named} ({type(error).__name__}): {LOCAL_COPY}.") from error


def as_pairs(dataset: Any, cfg: DataConfig) -> Any:
    """The three text columns of a data set; rows whose document or summary is null or blank are left out."""
    from datasets import Features, Value

    names = dataset.column_names or list(next(iter(dataset)))
    columns = {"document": cfg.document_column, "summary": cfg.summary_column}
    if cfg.id_column:
        columns["id"] = cfg.id_column
    for role, column in columns.items():
        if column not in names:
            raise missing_column(f"the hub's data set {cfg.hub_id}", role, column, names)
    arguments = {"columns": columns, "named": cfg.name}
    features = Features({name: Value("string") for name in ("id", "document", "summary")})
    options: dict[str, Any] = {"batched": True, "with_indices": True, "remove_columns": names, "features": features, "fn_kwargs": arguments}
    if hasattr(dataset, "__len__"):
        described = f"{PAIRS} {dataset._fingerprint} {sorted(columns.items())} {cfg.name}"
        options |= {"batch_size": 256, "writer_batch_size": 256, "new_fingerprint": hashlib.sha256(described.encode()).hexdigest()[:16]}
    return dataset.map(_pairs, **options)


def _pairs(rows: dict[str, list[Any]], indices: list[int], *, columns: dict[str, str], named: str) -> dict[str, list[str]]:
    documents, summaries = rows[columns["document"]], rows[columns["summary"]]
    ids = rows[columns["id"]] if "id" in columns else [f"{named}-{index}" for index in indices]
    whole = [i for i in range(len(documents)) if (documents[i] or "").strip() and (summaries[i] or "").strip()]
    return {
        "id": [str(ids[i]) for i in whole],
        "document": [documents[i] for i in whole],
        "summary": [summaries[i] for i in whole],
    }

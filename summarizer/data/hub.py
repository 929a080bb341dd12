"""Data sets of the Hugging Face Hub, in script-free form (`datasets` 4 and later refuse loading scripts)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer import hub
from summarizer.data.corpus import sample
from summarizer.data.file_formats import FORMATS, Record, ending_of
from summarizer.data.files import Columns, find_rows, first_line, missing_column, read_pairs, text_of
from summarizer.errors import DataError, HubError, SummarizerError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from summarizer.config import DataConfig

PAIRS = "2"  # of `as_pairs`; another value makes the pairs anew
LOCAL_COPY = "Files of your own are read with data=files data.train_file=<path>."


def load_hub(
    cfg: DataConfig, splits: Sequence[str], cache: Path
) -> tuple[dict[str, Dataset | IterableDataset], str | None]:
    """The named splits as pairs, at most `max_<split>_samples` rows of each, and a notice of rows that were no pairs.

    Files are kept in the hub's own cache, or in `data.cache_dir` where that is set.

    Raises:
        HubError: the hub does not answer, refuses, or lacks the data set, its revision or its configuration.
        DataError: a split or column that is not there, a row whose column holds no text, or a split without a pair.
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
        with _read(cfg, name):
            loaded[split] = pairs = as_pairs(dataset, cfg, name)
            if next(iter(pairs), None) is None:
                raise _no_pair(dataset, cfg, name)
        if not streaming and len(pairs) < len(dataset):
            dropped.append(f"{len(dataset) - len(pairs):,} of {split}")
    notice = (
        f"data={cfg.name}: rows without a document or summary were left out ({', '.join(dropped)})."
        if dropped
        else None
    )
    return loaded, notice


def named(cfg: DataConfig) -> str:
    """What messages call the data set."""
    return f"{cfg.hub_id}{f' at {cfg.revision}' if cfg.revision else ''}"


def _load(cfg: DataConfig, split: str, streaming: bool, cache: Path) -> Any:
    import datasets

    if streaming and "[" in split:
        raise DataError(
            f"data.train_split={split} is a part of a split, which cannot be streamed: name a whole split, or set data.streaming=false."
        )
    refusal = hub.refusal("dataset", str(cfg.hub_id), cfg.revision)
    with _read(cfg, split, refusal), _offline(refusal is not None):
        return datasets.load_dataset(
            cfg.hub_id,
            cfg.config_name,
            revision=cfg.revision,
            split=split,
            streaming=streaming,
            cache_dir=str(cache / "hub") if cfg.cache_dir else None,
        )


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """While inside, `datasets` looks into its cache alone: a hub that does not answer is not asked six times for each file."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or wanted
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _read(cfg: DataConfig, split: str, refusal: str | None = None) -> Iterator[None]:
    """Turn whatever `datasets` raises about a data set into one sentence.

    Args:
        refusal: why the hub gives nothing of it.

    Raises:
        HubError, DataError: see `load_hub`.
    """
    try:
        yield
    except SummarizerError:
        raise
    except Exception as error:  # of datasets, pyarrow, the hub's client and the HTTP library below it
        if refusal is not None:
            raise HubError(f"{refusal} {LOCAL_COPY}") from error
        raise _problem(cfg, split, error) from error


def _problem(cfg: DataConfig, split: str, error: Exception) -> SummarizerError:
    """What is wrong with a data set that the hub gives but `datasets` cannot read."""
    import datasets

    if "scripts are no longer supported" in str(error):
        return HubError(
            f"the hub's data set {named(cfg)} is a loading script, which is not run: set data.revision=refs/convert/parquet."
        )
    if hub.said_by_hub(error):
        return HubError(f"{hub.refused(error, f'dataset {named(cfg)}')} {LOCAL_COPY}")
    try:
        names = datasets.get_dataset_config_names(cfg.hub_id, revision=cfg.revision)
        if len(names) > 1 and cfg.config_name not in names:
            lacks = f"no configuration {cfg.config_name}; there are" if cfg.config_name else "several configurations:"
            return DataError(
                f"the hub's data set {named(cfg)} has {lacks} {', '.join(names)}: choose one with data.config_name={names[0]}."
            )
        builder = datasets.load_dataset_builder(cfg.hub_id, cfg.config_name, revision=cfg.revision)
    except Exception:  # then what was raised first is all there is to say
        return DataError(f"the hub's data set {named(cfg)} cannot be read ({_root(error)}): {_by_files([])}")
    files = {str(name): list(paths) for name, paths in (builder.config.data_files or {}).items()}
    whole = split.partition("[")[0]
    if files and whole not in files:
        return DataError(
            f"data={cfg.name}: the hub's data set {named(cfg)} has no split {whole}, but {', '.join(files)}; set data.train_split, "
            "data.validation_split or data.test_split."
        )
    try:
        found = _bad_row(cfg, files.get(whole, [])) or _other_columns(
            cfg, [path for paths in files.values() for path in paths]
        )
    except Exception:  # another file is damaged, or the hub went away meanwhile
        found = None
    return found or DataError(
        f"the hub's data set {named(cfg)}, split {split}, cannot be read ({_root(error)}): {_by_files(files.get(whole, []))}"
    )


def _bad_row(cfg: DataConfig, files: Sequence[str]) -> DataError | None:
    """The first file and line that our own reader of files cannot read either; it names the place, which `datasets` does not."""
    columns = Columns(cfg.document_column, cfg.summary_column, cfg.id_column)
    for address in files:
        if ending_of(address) not in FORMATS:
            continue
        try:
            for _ in read_pairs(find_rows(address, "data.hub_id"), columns):
                pass
        except DataError as error:
            return DataError(f"the hub's data set {named(cfg)}: {error}")
    return None


def _root(error: BaseException) -> str:
    """What started it, in one line: `datasets` wraps that in an error that says nothing."""
    return first_line(list(hub.causes(error))[-1]).rstrip(".: ")


def _other_columns(cfg: DataConfig, files: Sequence[str]) -> DataError | None:
    """The first file whose first row has other columns than that of the first file has: all splits are read as one table."""
    first: set[str] | None = None
    for address in files:
        if ending_of(address) not in FORMATS:
            return None
        columns = set(next(FORMATS[ending_of(address)](address)).values)
        first = columns if first is None else first
        if columns != first:
            more, fewer = sorted(columns - first), sorted(first - columns)
            found = [f"{', '.join(names)} {word}" for names, word in ((more, "more"), (fewer, "fewer")) if names]
            return DataError(
                f"the hub's data set {named(cfg)}: {address} has other columns than {files[0]} ({'; '.join(found)}): {_by_files(files)}"
            )
    return None


def _by_files(files: Sequence[str]) -> str:
    example = files[0] if files else "hf://datasets/..."
    return f"read its files one by one with data=files data.train_file={example}."


def _no_pair(dataset: Any, cfg: DataConfig, split: str) -> DataError:
    """What to say of a split none of whose rows is a pair."""
    place = f"the hub's data set {named(cfg)}, split {split}"
    first = next(iter(dataset), None)
    if first is None:
        return DataError(f"{place} holds no rows: name another split.")
    for role, column in (("document", cfg.document_column), ("summary", cfg.summary_column)):
        if not (first[column] or "").strip():
            found = "null" if first[column] is None else "empty"
            return DataError(
                f"{place}: no row has both a document and a summary; {column} is {found} in row 1: set data.{role}_column to one of "
                f"{', '.join(first)}, or name another split."
            )
    return DataError(f"{place}: no row has both a document and a summary: name other columns or another split.")


def as_pairs(dataset: Any, cfg: DataConfig, split: str) -> Any:
    """The three text columns of a data set; rows whose document or summary is null or blank are left out.

    Raises:
        DataError: a column is not there, or holds something that is no text.
    """
    from datasets import Features, Value

    names = dataset.column_names or list(next(iter(dataset)))
    columns = {"document": cfg.document_column, "summary": cfg.summary_column}
    if cfg.id_column:
        columns["id"] = cfg.id_column
    for role, column in columns.items():
        if column not in names:
            raise missing_column(f"the hub's data set {named(cfg)}, split {split}", role, column, names)
    chosen = getattr(dataset, "_indices", None)  # of a sample: the rows' places in the split
    arguments = {
        "columns": columns,
        "prefix": cfg.name,
        "place": f"the hub's data set {named(cfg)}, split {split}",
        "chosen": None if chosen is None else chosen.column(0),
    }
    features = Features({name: Value("string") for name in ("id", "document", "summary")})
    options: dict[str, Any] = {
        "batched": True,
        "with_indices": True,
        "remove_columns": names,
        "features": features,
        "fn_kwargs": arguments,
    }
    if hasattr(dataset, "__len__"):
        described = f"{PAIRS} {dataset._fingerprint} {sorted(columns.items())} {cfg.name}"
        options |= {
            "batch_size": 256,
            "writer_batch_size": 256,
            "new_fingerprint": hashlib.sha256(described.encode()).hexdigest()[:16],
        }
    return dataset.map(_pairs, **options)


def _pairs(
    rows: dict[str, list[Any]], indices: list[int], *, columns: dict[str, str], prefix: str, place: str, chosen: Any
) -> dict[str, list[str]]:
    """Pairs of a batch of rows, by the checks that files have."""
    pairs: dict[str, list[str]] = {"id": [], "document": [], "summary": []}
    for number, index in enumerate(indices):
        values = {column: rows[column][number] for column in columns.values()}
        texts = [values[columns[role]] for role in ("document", "summary")]
        if any(text is None or (isinstance(text, str) and not text.strip()) for text in texts):
            continue
        record = Record(values, f"row {(index if chosen is None else chosen[index].as_py()) + 1}")
        pairs["id"].append(str(values[columns["id"]]) if "id" in columns else f"{prefix}-{index}")
        for role in ("document", "summary"):
            pairs[role].append(text_of(record, role, columns[role], place))
    return pairs

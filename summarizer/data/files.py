"""A user's own pairs: csv, jsonl, json and Parquet files, here or wherever fsspec reaches (s3://, gs://, hf://).

Files are read row by row, so that memory does not grow with them, and every complaint names file and line. What was
read is kept as Arrow in the cache, under the files' names, sizes and times of change.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer.data.file_formats import FORMATS, PLAIN_TEXT, Record, ending_of, format_of
from summarizer.data.signatures import signature_of
from summarizer.data.store import built_once
from summarizer.errors import DataError
from summarizer.storage.place import PACKAGES

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from summarizer.config import DataConfig

READER = "4"  # of this module's rows; another value reads files anew
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
NEEDED_FOR = {
    "train": "to learn from",
    "validation": "to choose the best checkpoint by",
    "test": "to score the finished model on",
}


@dataclass(frozen=True)
class Columns:
    """Names of the columns that hold the parts of a pair; without an id column, rows are numbered."""

    document: str
    summary: str
    id: str | None


def load_files(cfg: DataConfig, splits: Sequence[str], cache: Path) -> dict[str, Dataset | IterableDataset]:
    """The named splits from `data.<split>_file`, which may be a pattern such as `s3://bucket/part-*.jsonl`.

    With `data.streaming` the train split is not stored but read as it comes.

    Raises:
        DataError: a split without a file, or a file, column or row that cannot be used.
    """
    columns = Columns(cfg.document_column, cfg.summary_column, cfg.id_column)
    loaded: dict[str, Any] = {}
    for split in splits:
        files = find_rows(_pattern(cfg, split), f"data.{split}_file")
        if cfg.streaming and split == "train":
            loaded[split] = _stream(files, columns)
        else:
            loaded[split] = _stored(files, columns, cache)
    return loaded


def check_files(cfg: DataConfig, splits: Sequence[str]) -> None:
    """Find the files of the named splits without reading them: a misspelled path should not wait for anything.

    Raises:
        DataError: a split without a file, or a file that is not there.
    """
    for split in splits:
        find_rows(_pattern(cfg, split), f"data.{split}_file")


def _pattern(cfg: DataConfig, split: str) -> str:
    pattern = getattr(cfg, f"{split}_file")
    if not pattern:
        raise DataError(
            f"data={cfg.name} has no {split} split, which is needed {NEEDED_FOR.get(split, 'here')}: set data.{split}_file=<path>."
        )
    return str(pattern)


@dataclass(frozen=True)
class SourceFile:
    """One file as fsspec names it, with what tells whether it has changed."""

    address: str
    version: str
    size: int


def find_rows(pattern: str, key: str) -> list[SourceFile]:
    """The files of rows that a path, address or pattern names.

    Raises:
        DataError: as `find`, or the ending is of no format that holds rows.
    """
    refuse_folder(pattern, key)
    try:
        format_of(pattern, key)
    except DataError:
        for file in find(pattern, key)[:1]:  # what it is says more than what its name is not
            refuse_signature(file.address)
        raise
    return find(pattern, key)


def refuse_folder(pattern: str, key: str) -> None:
    """Refuse a folder; what lies in it is named, and whether a pattern would do.

    Raises:
        DataError: it is one.
    """
    folder = Path(pattern).expanduser()
    if not folder.is_dir():
        return
    endings = Counter(ending_of(path.name) for path in folder.iterdir() if path.is_file())
    held = ", ".join(f"{count:,} .{ending}" for ending, count in endings.most_common(3) if ending) or "no files"
    rows = next((ending for ending, _ in endings.most_common() if ending in FORMATS), None)
    if rows is None and any(ending in PLAIN_TEXT for ending in endings):
        raise DataError(
            f"{key}={pattern} is a folder of plain texts ({held}), with no summaries beside them: write pairs of document and summary "
            "into one .csv or .jsonl file; task=predict reads such a folder."
        )
    raise DataError(
        f"{key}={pattern} is a folder ({held}): name a file, or files by a pattern such as {pattern.rstrip('/')}/*.{rows or 'jsonl'}."
    )


def refuse_signature(address: str) -> None:
    """Refuse a file that is no text by its first bytes.

    Raises:
        DataError: it is one, and what it is.
    """
    import fsspec

    with fsspec.open(address, "rb") as file:
        kind = signature_of(file.read(4096))
    if kind is not None:
        raise DataError(f"{readable(address)} is {kind}.")


def find(pattern: str, key: str) -> list[SourceFile]:
    """The files that a path, address or pattern names, in order of name.

    Raises:
        DataError: there is none, or it cannot be reached.
    """
    import fsspec

    protocol = pattern.split("://")[0] if "://" in pattern else "file"
    try:
        filesystem, path = fsspec.core.url_to_fs(str(Path(pattern).expanduser()) if protocol == "file" else pattern)
        # a name may hold the marks of a pattern
        patterned = any(mark in path for mark in "*?[") and not filesystem.exists(path)
        paths = sorted(filesystem.glob(path)) if patterned else [path]
        infos = [filesystem.info(found) for found in paths]
    except ImportError as error:
        raise DataError(
            f"{key}={pattern}: reading {protocol}:// needs `pip install '{PACKAGES.get(protocol, protocol)}'`."
        ) from error
    except ValueError as error:
        raise DataError(
            f"{key}={pattern} is no address that can be read ({error}): give a path, or s3://, gs:// or hf://."
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            f"{key}={pattern} does not exist: check the path, relative ones start from {Path.cwd()}; for a job from another machine "
            f"name the file here with {key}=<path>."
        ) from error
    except Exception as error:  # each storage has its own kinds
        raise DataError(
            f"{key}={pattern} cannot be reached ({type(error).__name__}: {first_line(error)}): check address and credentials."
        ) from error
    if not infos:
        raise DataError(f"{key}={pattern} matches no file: check the pattern, relative ones start from {Path.cwd()}.")
    for info in infos:
        if info["type"] == "directory":
            raise DataError(
                f"{key}={pattern} is a folder: name a file, or files by a pattern such as {pattern.rstrip('/')}/*.jsonl."
            )
        if info["size"] == 0:
            raise DataError(f"{info['name']} is empty: write one row for each document into it.")
    return [SourceFile(filesystem.unstrip_protocol(info["name"]), _version(info), info["size"]) for info in infos]


def _version(info: dict[str, Any]) -> str:
    changed = next(
        (info[key] for key in ("ETag", "etag", "blob_id", "mtime", "LastModified", "updated") if info.get(key)), ""
    )
    return f"{info['size']} {changed}"


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def read_pairs(files: Sequence[SourceFile], columns: Columns) -> Iterator[dict[str, str]]:
    """Every row of the files as id, document and summary.

    Raises:
        DataError: at the first row that is no pair.
    """
    number = 0
    for file in files:
        rows_before, name = number, readable(file.address)
        for record in FORMATS[format_of(file.address)](name):
            yield {
                "id": text_of(record, "id", columns.id, name) if columns.id else str(number),
                "document": text_of(record, "document", columns.document, name),
                "summary": text_of(record, "summary", columns.summary, name),
            }
            number += 1
        if number == rows_before:
            raise DataError(f"{name} holds no rows: write one for each document into it.")


def readable(address: str) -> str:
    """An address as a user writes it."""
    return address.removeprefix("file://")


def missing_column(place: str, role: str, column: str, names: Sequence[str]) -> DataError:
    """What to say when the column of a role (document, summary, id) is not among the names."""
    import difflib

    close = difflib.get_close_matches(column, names, n=1)
    hint = (
        f"did you mean data.{role}_column={close[0]}?"
        if close
        else f"set data.{role}_column to one of {', '.join(names)}."
    )
    return DataError(f"{place} has no column {column}; {hint}")


def text_of(record: Record, role: str, column: str, name: str) -> str:
    """The text of a row's column; halves of characters (lone surrogates, which JSON can hold) become the replacement character.

    Args:
        role: document, summary or id.
        name: what an error message calls the file.

    Raises:
        DataError: the column is not there, or holds no text.
    """
    place = f"{name}, {record.place}"
    if column not in record.values:
        raise missing_column(place, role, column, [str(name) for name in record.values])
    value = record.values[column]
    if value is None:
        raise DataError(f"{place}: {column} is null; fill it in or leave the row out.")
    if not isinstance(value, str) and not (role == "id" and type(value) is int):
        raise DataError(
            f"{place}: {column} is a {kind_of(value)}, not text ({str(value)[:40]}); name another column with "
            f"data.{role}_column, or convert it."
        )
    text = str(value)
    if not text.strip():
        raise DataError(f"{place}: {column} is empty; fill it in or leave the row out.")
    return LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def kind_of(value: Any) -> str:
    """What a value of a row is, in words that are not Python's."""
    kinds = {bool: "truth value", int: "number", float: "number", dict: "table of named values", bytes: "binary value"}
    return kinds.get(type(value), type(value).__name__)


def _features() -> Any:
    from datasets import Features, Value

    return Features({name: Value("string") for name in ("id", "document", "summary")})


def _stream(files: list[SourceFile], columns: Columns) -> IterableDataset:
    from datasets import IterableDataset

    stream = IterableDataset.from_generator(
        read_pairs, features=_features(), gen_kwargs={"files": files, "columns": columns}
    )
    # all that is known of it without reading it; the same for files that were moved
    stream._fingerprint = json.dumps([file.size for file in files])
    return stream


def _stored(files: list[SourceFile], columns: Columns, cache: Path) -> Dataset:
    from datasets import Dataset

    described = json.dumps(
        [READER, [(f.address, f.version) for f in files], [columns.document, columns.summary, columns.id]]
    )
    mark = hashlib.sha256(described.encode()).hexdigest()[:32]
    folder = cache / "files" / mark

    def build(into: Path) -> dict[str, Any]:
        from datasets.arrow_writer import ArrowWriter

        content = hashlib.sha256()
        # batches small enough for documents of megabytes
        with ArrowWriter(path=str(into / "rows.arrow"), features=_features(), writer_batch_size=256) as writer:
            for row in read_pairs(files, columns):
                writer.write(row)
                content.update(json.dumps(row).encode())
            rows, _ = writer.finalize()
        return {"rows": rows, "files": [file.address for file in files], "content": content.hexdigest()[:32]}

    notes = built_once(folder, build)
    dataset = Dataset.from_file(str(folder / "rows.arrow"))
    # Of the rows, not of where they stand: the same on any machine, and for a file that was moved.
    dataset._fingerprint = notes["content"]
    return dataset

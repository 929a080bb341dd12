"""Rows of csv, jsonl, json and Parquet files, one at a time, each with the place that a complaint can name."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from summarizer.errors import DataError

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
BATCH_ROWS = 256  # of Parquet: few, because a document may be megabytes


@dataclass(frozen=True)
class Record:
    """One row as the file has it, and where it stands there, such as "line 17"."""

    values: dict[str, Any]
    place: str


def format_of(address: str, key: str | None = None) -> str:
    """csv, jsonl, json or parquet, by the file's ending.

    Args:
        key: the config key to name in a complaint.

    Raises:
        DataError: another ending.
    """
    name = address.rsplit("/", 1)[-1].lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    ending = name.rsplit(".", 1)[-1] if "." in name else ""
    ending = {"tsv": "csv", "ndjson": "jsonl"}.get(ending, ending)
    if ending not in FORMATS:
        named = f"{key}={address}" if key else address
        raise DataError(f"{named} has an ending that is not known: give a .csv, .tsv, .jsonl, .json or .parquet file.")
    return ending


def text_lines(address: str) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, decompressed by its ending.

    Raises:
        DataError: at the first line that is not UTF-8, or where a compressed file breaks off.
    """
    import fsspec

    number = 0
    try:
        with fsspec.open(address, "rb", compression="infer") as file:
            for number, line in enumerate(file, 1):
                yield (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{address}, line {number} is not UTF-8 (byte {error.object[error.start]:#04x} at column {error.start + 1}): convert the file, "
            "for instance with `iconv -f latin1 -t utf-8`."
        ) from error
    except (EOFError, OSError) as error:
        raise DataError(f"{address} cannot be read after line {number} ({error}): check that the file is whole.") from error


def csv_rows(address: str) -> Iterator[Record]:
    """Rows of a comma-separated file with a header; a .tsv file is separated by tabs."""
    csv.field_size_limit(sys.maxsize)
    tabs = ".tsv" in address.rsplit("/", 1)[-1].lower()
    reader = csv.reader(text_lines(address), delimiter="\t" if tabs else ",", strict=True)
    try:
        header = next(reader, [])
        before = reader.line_num
        for values in reader:
            # a quoted field may hold line ends: a row begins after the last line of the one before
            place, before = f"line {before + 1}", reader.line_num
            if not values:
                continue
            if len(values) > len(header):
                raise DataError(f"{address}, {place} has {len(values)} fields, but the header has {len(header)}: quote texts that hold the separator.")
            # a short row lacks its last fields
            yield Record(dict(zip(header, [*values, *[None] * (len(header) - len(values))], strict=True)), place)
    except csv.Error as error:
        raise DataError(f"{address}, line {reader.line_num} is no valid CSV ({error}): check its quotes.") from error


def jsonl_rows(address: str) -> Iterator[Record]:
    """One JSON object a line; blank lines are passed over."""
    for number, line in enumerate(text_lines(address), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            raise DataError(f"{address}, {place} is no valid JSON ({error}): write one object a line.") from error
        yield Record(_object(values, address, place), place)


def json_rows(address: str) -> Iterator[Record]:
    """An array of objects, which is read as a whole; a file of one object a line is taken as jsonl."""
    first = next((line for line in text_lines(address) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from jsonl_rows(address)
        return
    try:
        rows = json.loads("".join(text_lines(address)))
    except ValueError as error:
        raise DataError(f"{address} is no valid JSON ({error}): write an array of objects.") from error
    for number, values in enumerate(rows, 1):
        yield Record(_object(values, address, f"row {number}"), f"row {number}")


def _object(values: Any, address: str, place: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{address}, {place} is a {type(values).__name__}, not an object with named columns: write {{\"document\": ..., \"summary\": ...}}.")
    return values


def parquet_rows(address: str) -> Iterator[Record]:
    """Rows of a Parquet file, a small batch at a time."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(address, "rb") as file:
            number = 0
            for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(values, f"row {number}")
    except UnicodeDecodeError as error:
        raise DataError(f"{address} holds text that is not UTF-8 (after row {number}): write its columns as UTF-8 strings.") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{address} is no whole Parquet file ({str(error).splitlines()[0][:160]}): write it again.") from error


FORMATS: dict[str, Callable[[str], Iterator[Record]]] = {
    "csv": csv_rows,
    "jsonl": jsonl_rows,
    "json": json_rows,
    "parquet": parquet_rows,
}

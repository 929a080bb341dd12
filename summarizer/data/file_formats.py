"""Rows of csv, tsv, jsonl, json and Parquet files, one at a time, each with the place that an error message can name."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from summarizer.data.signatures import COMPRESSED, decompressed, not_utf8, seekable, signature_of
from summarizer.errors import DataError

log = logging.getLogger(__name__)

PLAIN_TEXT = ("txt", "text", "md", "markdown", "rst")
BATCH_ROWS = 256  # of Parquet: few, because a document may be megabytes


@dataclass(frozen=True)
class Record:
    """One row as the file has it, and where it stands there, such as "line 17"."""

    values: dict[str, Any]
    place: str


def ending_of(address: str) -> str:
    """The ending of a file's name in small letters, without that of its compression; empty where it has none."""
    name = address.rsplit("/", 1)[-1].lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return name.rsplit(".", 1)[-1] if "." in name else ""


def format_of(address: str, key: str | None = None) -> str:
    """csv, tsv, jsonl, json or parquet, by the file's ending.

    Args:
        key: the config key to name in an error message.

    Raises:
        DataError: another ending.
    """
    ending = ending_of(address)
    ending = {"ndjson": "jsonl"}.get(ending, ending)
    if ending not in FORMATS:
        named = f"{key}={address}" if key else address
        if ending in PLAIN_TEXT:
            raise DataError(
                f"{named} is a plain text, with no summary beside it: write pairs of document and summary as a .csv, .tsv, .jsonl, "
                ".json or .parquet file; task=predict reads plain texts."
            )
        raise DataError(f"{named} has an ending that is not known: give a .csv, .tsv, .jsonl, .json or .parquet file.")
    return ending


def text_lines(address: str, name: str | None = None) -> Iterator[str]:
    """The lines of a UTF-8 file with their ends, decompressed by its ending.

    Args:
        name: what an error message calls the file; None is its address.

    Raises:
        DataError: a file of another kind by its first bytes, the first line that is not UTF-8, or where a file breaks off.
    """
    name, number = name or address, 0
    try:
        with decompressed(address) as file:
            for number, line in enumerate(file, 1):
                if number == 1:
                    if (kind := signature_of(line)) is not None:
                        raise DataError(f"{name} is {kind}.")
                    line = line.removeprefix(b"\xef\xbb\xbf")
                yield line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(not_utf8(f"{name}, line {number}", error)) from error
    except (EOFError, OSError) as error:
        raise DataError(
            f"{name} cannot be read after line {number} ({error}): check that the file is whole."
        ) from error


def header_of(names: Sequence[str], address: str, separator: str) -> list[str]:
    """The names of a header, without spaces around them.

    Raises:
        DataError: two of one name, or a header of one name that holds another separator.
    """
    header = [name.strip() for name in names]
    refuse_doubles(header, address)
    if len(header) == 1:
        for other, called in {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}.items():
            if other != separator and other in header[0]:
                raise DataError(
                    f"{address} is separated by {called}: a .csv file needs commas and a .tsv file tabs; convert it or rename it."
                )
    return header


def refuse_doubles(names: Sequence[str], place: str) -> None:
    """Refuse two columns of one name: nobody can say which is meant.

    Raises:
        DataError: there are two.
    """
    for name in names:
        if name and names.count(name) > 1:
            raise DataError(f"{place} has {names.count(name)} columns named {name}: rename all but one.")


def wrong_count(header: Sequence[str], values: Sequence[str], address: str, place: str, hint: str) -> DataError:
    count = f"{len(values)} field{'s' * (len(values) != 1)}"
    return DataError(f"{address}, {place} has {count}, but the header has {len(header)}: {hint}")


def row_of(header: Sequence[str], values: Sequence[str], address: str, place: str, hint: str) -> Record:
    if len(values) > len(header):
        raise wrong_count(header, values, address, place, hint)
    # a short row lacks its last fields
    return Record(dict(zip(header, [*values, *[None] * (len(header) - len(values))], strict=True)), place)


def csv_rows(address: str, name: str | None = None) -> Iterator[Record]:
    """Rows of a comma-separated file with a header."""
    name = name or address
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(text_lines(address, name), strict=True)
    try:
        header = header_of(next(reader, []), name, ",")
        before = reader.line_num
        for values in reader:
            # a quoted field may hold line ends: a row begins after the last line of the one before
            place, before = f"line {before + 1}", reader.line_num
            if values:
                yield row_of(header, values, name, place, "quote texts that hold the separator.")
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num} is no valid CSV ({error}): check its quotes.") from error


def tsv_rows(address: str, name: str | None = None) -> Iterator[Record]:
    """Rows of a file separated by tabs, with a header. The format has no quoting: one line is one row, a quote is text.

    Not by the csv module: without quoting nothing is left to parse, and it would end a row at a carriage return.
    """
    name, header, told = name or address, None, False
    for number, line in enumerate(text_lines(address, name), 1):
        values = line.rstrip("\r\n").split("\t")
        if header is None:
            header = header_of(values, name, "\t")
        elif line.strip("\r\n"):
            if not told and any(len(value) > 1 and value[0] == value[-1] == '"' for value in values):
                told = True
                log.warning(
                    "%s, line %d: a .tsv file has no quoting, so quotes around a text belong to it.", name, number
                )
            hint = "a text must hold neither tabs nor line ends; write such texts as .csv or .jsonl."
            if len(values) < len(header):
                raise wrong_count(header, values, name, f"line {number}", hint)
            yield row_of(header, values, name, f"line {number}", hint)


def jsonl_rows(address: str, name: str | None = None) -> Iterator[Record]:
    """One JSON object a line; blank lines are passed over."""
    name = name or address
    for number, line in enumerate(text_lines(address, name), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values = json.loads(line, object_pairs_hook=Pairs)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{name}, {place} is no valid JSON ({error}): write one object a line.") from error
        yield Record(_object(values, name, place), place)


def json_rows(address: str, name: str | None = None) -> Iterator[Record]:
    """An array of objects, which is read as a whole; a file of one object a line is taken as jsonl."""
    name = name or address
    first = next((line for line in text_lines(address, name) if line.strip()), "")
    if not first.lstrip().startswith("["):
        yield from jsonl_rows(address, name)
        return
    try:
        rows = json.loads("".join(text_lines(address, name)), object_pairs_hook=Pairs)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name} is no valid JSON ({error}): write an array of objects.") from error
    for number, values in enumerate(rows, 1):
        yield Record(_object(values, name, f"row {number}"), f"row {number}")


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it is written, with names that may stand twice."""


def _object(values: Any, address: str, place: str) -> dict[str, Any]:
    if not isinstance(values, Pairs):
        raise DataError(
            f'{address}, {place} is a {type(values).__name__}, not an object with named columns: write {{"document": ..., "summary": ...}}.'
        )
    found = dict(values)
    if len(found) < len(values):
        refuse_doubles([key for key, _ in values], f"{address}, {place}")
    return {key: dict(value) if isinstance(value, Pairs) else value for key, value in found.items()}


def parquet_rows(address: str, name: str | None = None) -> Iterator[Record]:
    """Rows of a Parquet file, a small batch at a time; of a compressed one, from a copy on the disk: its table stands at its end."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, number = name or address, 0
    try:
        with seekable(address) as opened:
            beginning = opened.read(4096)
            if not beginning.startswith(b"PAR1"):
                kind = signature_of(beginning) or "text: give it the ending of its format, such as .csv or .jsonl"
                raise DataError(f"{name} is no Parquet file, but {kind}.")
            opened.seek(0)
            file = pq.ParquetFile(opened)
            refuse_doubles(file.schema_arrow.names, name)
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Record(values, f"row {number}")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} holds text that is not UTF-8 (after row {number}): write its columns as UTF-8 strings."
        ) from error
    except (pa.ArrowException, EOFError, OSError) as error:
        raise DataError(
            f"{name} is no whole Parquet file ({str(error).splitlines()[0][:160]}): write it again."
        ) from error


FORMATS: dict[str, Callable[..., Iterator[Record]]] = {
    "csv": csv_rows,
    "tsv": tsv_rows,
    "jsonl": jsonl_rows,
    "json": json_rows,
    "parquet": parquet_rows,
}

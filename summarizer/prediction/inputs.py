"""Documents from a file, a folder or standard input, by the readers that training reads its files with."""

from __future__ import annotations

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from summarizer.data.file_formats import FORMATS, PLAIN_TEXT, Record, ending_of, format_of, text_lines
from summarizer.data.files import LONE_SURROGATE, find, readable, text_of
from summarizer.errors import ConfigError, DataError

log = logging.getLogger(__name__)

TEXT_ENDINGS = (*PLAIN_TEXT, "ndjson", *FORMATS)  # of the files that a folder is read for
NAMED = 8  # skipped files that are named one by one
JSON_LINES = ("jsonl", "ndjson", "json")


@dataclass(frozen=True)
class Document:
    id: str
    text: str
    jsonl: bool = False
    """Came as JSON, so that `output_format: auto` answers in kind."""


@dataclass(frozen=True)
class Source:
    """One file of documents.

    Attributes:
        address: as fsspec takes it.
        name: what an error message calls it.
        format: of `file_formats.FORMATS`; None is one plain text.
    """

    address: str
    name: str
    format: str | None


class Documents:
    """The documents that `config.input` names, read row by row each time they are gone through, so that memory does not grow
    with a file.

    Raises:
        ConfigError: no input named.
        DataError: missing, empty or no text; a row without a document.
    """

    def __init__(self, config: Any) -> None:
        self.column, self.id_column = config.data.document_column, config.data.id_column
        self.sources = sources_of(config.input)
        # Before the model is loaded and the first summary written: the last row may be the one that cannot be used.
        for _ in self:
            pass

    def __iter__(self) -> Iterator[Document]:
        for source in self.sources:
            yield from self._documents(source)

    def _documents(self, source: Source) -> Iterator[Document]:
        if source.format is None:
            text = "".join(text_lines(source.address, source.name)).strip()
            if not text:
                raise DataError(f"{source.name} is empty: give it at least one document.")
            yield Document(source.name, text)
            return
        rows = 0
        for record in FORMATS[source.format](source.address, source.name):
            rows += 1
            text = text_of(record, "document", self.column, source.name).strip()
            yield Document(self._id(record, source), text, jsonl=source.format in JSON_LINES)
        if not rows:
            raise DataError(f"{source.name} is empty: give it at least one document.")

    def _id(self, record: Record, source: Source) -> str:
        if self.id_column:
            return text_of(record, "id", self.id_column, source.name)
        given = record.values.get("id")
        return (
            f"{source.name}, {record.place}"
            if given is None
            else LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", str(given))
        )


def sources_of(given: str | None) -> list[Source]:
    """The files that an input names; of a folder those that hold text, and one line names the others."""
    if not given:
        raise ConfigError("task=predict needs input=: name a file, a folder, or - for standard input.")
    if given == "-":
        return [kept(sys.stdin.buffer, "standard input")]
    path = Path(given).expanduser()
    if "://" not in given and path.exists():
        if path.is_dir():
            return files_of(path)
        if path.is_file():
            return [source_of(str(path))]
        with path.open("rb") as pipe:  # as bash's <(...)
            return [kept(pipe, str(path))]
    if "://" not in given and not any(mark in given for mark in "*?["):
        raise DataError(f"the input {path} does not exist: name a file, a folder, or - for standard input.")
    return [source_of(readable(file.address)) for file in find(given, "input")]


def source_of(name: str) -> Source:
    known = ending_of(name) in (*FORMATS, "ndjson")
    return Source(name, name, format_of(name) if known else None)


def files_of(folder: Path) -> list[Source]:
    found, skipped = [], []
    for path in sorted(folder.iterdir()):
        if path.is_file() and ending_of(path.name) in TEXT_ENDINGS:
            found.append(source_of(str(path)))
        else:
            skipped.append(f"{path.name}/ (a folder)" if path.is_dir() else f"{path.name} (not a text format)")
    if skipped:
        more = f" and {len(skipped) - NAMED} more" if len(skipped) > NAMED else ""
        count = f"{len(skipped)} file{'s' * (len(skipped) > 1)}"
        log.warning("skipped %s of %s: %s%s", count, folder, ", ".join(skipped[:NAMED]), more)
    if not found:
        endings = ", ".join(f".{ending}" for ending in TEXT_ENDINGS)
        raise DataError(f"the folder {folder} holds no {endings} file: put the documents there or name a file.")
    return found


KEPT: list[Any] = []  # temporary files, which are removed when this process ends


def kept(stream: IO[bytes], name: str) -> Source:
    """What comes through a pipe as a file, since it is read twice: JSON where it starts with a brace, else one plain text."""
    file = tempfile.NamedTemporaryFile(prefix="summarizer-input-")  # noqa: SIM115
    KEPT.append(file)
    shutil.copyfileobj(stream, file)
    file.flush()
    file.seek(0)
    beginning = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    if beginning.startswith(b"{") and not beginning.startswith(b"{\\rtf"):
        return Source(file.name, name, "jsonl")
    listed = beginning.startswith(b"[") and beginning[1:].lstrip().startswith(b"{")
    return Source(file.name, name, "json" if listed else None)

"""Documents from a file, a folder or standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summarizer.errors import ConfigError, DataError

ENDINGS = (".txt", ".jsonl")


@dataclass(frozen=True)
class Document:
    id: str
    text: str
    jsonl: bool = False
    """Came as a line of jsonl, so that `output_format: auto` answers in kind."""


def read_documents(config: Any) -> list[Document]:
    """The documents that `config.input` names: a .txt file is one document, a .jsonl file one a line (column
    `data.document_column`), a folder all of these in order of name, - standard input (jsonl where it starts with a brace).

    Raises:
        ConfigError: no input named.
        DataError: missing, empty or not UTF-8; a line that is not JSON; a missing column; an empty document.
    """
    column = config.data.document_column
    if not config.input:
        raise ConfigError("task=predict needs input=: name a file, a folder, or - for standard input.")
    if config.input == "-":
        return list(parse(sys.stdin.buffer.read(), "standard input", None, column))
    path = Path(config.input).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in ENDINGS and file.is_file())
        if not files:
            raise DataError(
                f"the folder {path} holds no {' or '.join(ENDINGS)} file: put the documents there or name a file."
            )
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"the input {path} does not exist: name a file, a folder, or - for standard input.")
    documents = []
    for file in files:
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise DataError(f"the input {file} cannot be read ({error.strerror}): check its permissions.") from error
        documents += parse(raw, str(file), file.suffix == ".jsonl", column)
    return documents


def parse(raw: bytes, where: str, jsonl: bool | None, column: str) -> Iterator[Document]:
    """Documents of one source; `jsonl` None looks at the first character."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where} is not UTF-8 (byte {error.start}): convert it, for example with iconv -t UTF-8."
        ) from error
    if not text.strip():
        raise DataError(f"{where} is empty: give it at least one document.")
    if jsonl is None:
        jsonl = text.lstrip().startswith("{")
    if not jsonl:
        yield Document(where, text.strip())
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield parse_line(line, f"{where}, line {number}", column)


def parse_line(line: str, where: str, column: str) -> Document:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where} is not JSON ({error.msg}): put one object on each line.") from error
    if not isinstance(row, dict) or column not in row:
        there = ", ".join(row) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{where} has no column {column!r} (there is: {there}): name yours with data.document_column=.")
    text = row[column]
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{where}: the document in column {column!r} is empty or no text: remove the line or fill it in."
        )
    return Document(str(row.get("id", where)), text.strip(), jsonl=True)

"""The first bytes of a file: what they say it is, and how it is decompressed."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CONVERT = "convert it to UTF-8 text"
SIGNATURES = (  # first bytes -> what the file is, and what to do
    (b"\xff\xfe\x00\x00", "UTF-32 text: convert it with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`"),
    (b"%PDF-", f"a PDF file, not text: {CONVERT}, for instance with `pdftotext`"),
    (b"PK\x03\x04", f"a zip archive or an Office document (docx, xlsx, odt), not text: unpack it, or {CONVERT}"),
    (b"\xd0\xcf\x11\xe0", f"an old Office document (doc, xls), not text: {CONVERT}"),
    (b"{\\rtf", f"a rich text (RTF) document, not plain text: {CONVERT}"),
    (b"PAR1", "a Parquet file: give it the ending .parquet"),
    (b"ARROW1", "an Arrow file: write it as .parquet"),
    (b"\x1f\x8b", "compressed by gzip: give it the ending .gz, such as .jsonl.gz"),
    (b"BZh", "compressed by bzip2: give it the ending .bz2, such as .jsonl.bz2"),
    (b"\xfd7zXZ", "compressed by xz: give it the ending .xz, such as .jsonl.xz"),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard: give it the ending .zst, such as .jsonl.zst"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it"),
    (b"SQLite format 3", "an SQLite database: export the table as .csv"),
    (b"\x89PNG", "an image, not text"),
    (b"\xff\xd8\xff", "an image, not text"),
)

COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}  # ending -> as fsspec calls it
COMPRESSED = tuple(COMPRESSION)


def signature_of(beginning: bytes) -> str | None:
    """What a file that begins like this is, with what to do, where it is no UTF-8 text."""
    for signature, kind in SIGNATURES:
        if beginning.startswith(signature):
            return kind
    return "a binary file, not text" if b"\x00" in beginning[:4096] else None


def not_utf8(place: str, error: UnicodeDecodeError) -> str:
    byte = f"byte {error.object[error.start]:#04x} at column {error.start + 1}"
    return f"{place} is not UTF-8 ({byte}): convert the file, for instance with `iconv -f latin1 -t utf-8`."


@contextmanager
def decompressed(address: str) -> Iterator[Any]:
    """The bytes of a file, decompressed by its ending, in whatever letters that is written."""
    import fsspec

    compression = None
    for ending, name in COMPRESSION.items():
        if address.lower().endswith(ending):
            compression = name
    if compression != "zstd":
        with fsspec.open(address, "rb", compression=compression) as file:
            yield file
        return
    import pyarrow as pa  # has Zstandard, which Python has from 3.14 on

    with fsspec.open(address, "rb") as file, pa.CompressedInputStream(file, "zstd") as stream:
        yield io.BufferedReader(stream)


@contextmanager
def seekable(address: str) -> Iterator[Any]:
    """The bytes of a file at any place; a compressed one is decompressed to the disk."""
    import fsspec

    if not address.lower().endswith(COMPRESSED):
        with fsspec.open(address, "rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as whole:
        with decompressed(address) as file:
            shutil.copyfileobj(file, whole)
        whole.seek(0)
        yield whole

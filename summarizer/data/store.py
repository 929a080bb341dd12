"""Folders of the user's cache that are built once: whole or not there, never half, however many processes ask."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from summarizer.errors import OutputError
from summarizer.paths import cache_dir as default_cache_dir

log = logging.getLogger(__name__)

MARK = "complete.json"  # written last: a folder without it, or whose files differ from it, is not used


def cache_root(cache_dir: str | os.PathLike[str] | None) -> Path:
    """The folder that a `data.cache_dir` means; None is the user's cache."""
    return Path(cache_dir).expanduser() if cache_dir else default_cache_dir()


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What was noted when `folder` was finished; None when it is missing, half-written or damaged."""
    try:
        mark: dict[str, Any] = json.loads((folder / MARK).read_text())
        whole = all((folder / name).stat().st_size == size for name, size in mark["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return mark if whole else None


def built_once(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The notes of a finished folder, which is built first if need be.

    Args:
        folder: where the files will be; nothing else may write there.
        build: fills an empty folder and returns notes (JSON) about what it did. What it raises is passed on, and
            nothing of its work is kept.

    Raises:
        OutputError: the cache cannot be written, or the disk is full.
    """
    if (mark := read_mark(folder)) is not None:
        return dict(mark["notes"])
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _waited_for(folder):
            if (mark := read_mark(folder)) is not None:  # another process built it while this one waited
                return dict(mark["notes"])
            if folder.exists():
                log.warning("%s is incomplete, so it is built again.", folder)
            return _build(folder, build)
    except OSError as error:
        raise _unwritable(folder.parent, error) from error


@contextmanager
def _waited_for(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; a wait for the process that holds it is said."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder.with_name(folder.name + ".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("waiting for another process that prepares %s ...", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _build(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        notes = build(partial)
        files = {str(p.relative_to(partial)): p.stat().st_size for p in sorted(partial.rglob("*")) if p.is_file()}
        (partial / MARK).write_text(json.dumps({"notes": notes, "files": files}, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return notes


def write_note(path: Path, content: dict[str, Any]) -> None:
    """Write a small JSON file of the cache, whole or not at all.

    Raises:
        OutputError: the cache cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(content, indent=1))
        partial.replace(path)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"the cache {folder} cannot be written ({error.strerror or error}): free some space, or name another folder "
        "with SUMMARIZER_CACHE or data.cache_dir."
    )


def write_rows(rows: Sequence[Any], columns: Sequence[str], path: Path) -> None:
    """Write the named attributes of rows as a table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({column: [getattr(row, column) for row in rows] for column in columns})
    pq.write_table(table, path, compression="zstd", compression_level=19, row_group_size=4096)

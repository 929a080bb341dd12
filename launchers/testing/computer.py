"""This computer, as a fake launch finds it: a new ledger, a disk that may be full, and what is said on the console."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO
from unittest.mock import patch

from launchers.ledger import Ledger
from launchers.testing.faults import Faults
from launchers.transport.folder import Folder
from launchers.transport.logs import KeptLog


@functools.cache
def empty_ledger() -> bytes:
    """The file of a new ledger: most of the time of a short launch would go into its making."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        Ledger(path, durable=False).close()
        return path.read_bytes()


@contextlib.contextmanager
def full_disk(faults: Faults) -> Iterator[None]:
    """This computer's disk, as full as the schedule says."""
    if not any(fault.kind == "disk full" for fault in faults.timed):
        yield
        return
    opened, appended = Folder.open, KeptLog.append

    def check() -> None:
        if faults.lasts("disk full"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def open_file(folder: Folder, path: str, flags: int, mode: str) -> BinaryIO:
        if flags & (os.O_WRONLY | os.O_RDWR):
            check()
        return opened(folder, path, flags, mode)

    def append(kept: KeptLog, chunk: bytes) -> None:
        check()
        appended(kept, chunk)

    with patch.object(Folder, "open", open_file), patch.object(KeptLog, "append", append):
        yield


class Lines(logging.Handler):
    """Keeps what is logged, a text for each line."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

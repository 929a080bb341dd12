"""What a local job of a sweep prints: kept in its folder, so that the console shows the sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from launchers.secrecy import scrub

CONSOLE_LOG = "console.log"
"""In a job's folder: all that the job and its child processes printed."""


@contextlib.contextmanager
def kept_output(folder: Path) -> Iterator[None]:
    """Send what this process and its children print to `console.log` of a folder, below what is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / CONSOLE_LOG).open("a", buffering=1, encoding="utf-8", errors="backslashreplace") as file,
        _descriptor(1, file.fileno()),
        _descriptor(2, file.fileno()),
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
    ):
        yield


@contextlib.contextmanager
def _descriptor(number: int, to: int) -> Iterator[None]:
    """Children and libraries in C write to the number, whatever `sys.stdout` is."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    try:
        before = os.dup(number)
    except OSError:  # it is closed
        yield
        return
    os.dup2(to, number)
    try:
        yield
    finally:
        os.dup2(before, number)
        os.close(before)


class Warnings(logging.Handler):
    """Warnings and errors that a job logs, which are not for its log alone."""

    def __init__(self, say: Callable[[str], None], number: int) -> None:
        super().__init__(logging.WARNING)
        self._say, self._number = say, number

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(f"job {self._number}: {record.levelname.lower()}: {scrub(record.getMessage())}")
        except Exception:
            self.handleError(record)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """From when Hydra has set up the job's own logging, which drops handlers that were there before."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

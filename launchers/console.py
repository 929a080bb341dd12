"""Standard output and error whose reader may leave, as that of `| head` does: what a launch keeps and destroys must not depend on it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import TextIO


def is_closed(error: BaseException) -> bool:
    """Whether an error of writing says that nobody reads any more."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.EPIPE, errno.EIO, errno.EBADF)
    return isinstance(error, ValueError)  # Python's word for a file that was closed here


def discard(out: TextIO) -> None:
    """Send what is still written to a closed stream nowhere: its buffer would fail again when the interpreter exits."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, out.fileno())
        os.close(null)


def survive_closed_console() -> None:
    """See that a log line to a closed console is dropped, instead of a traceback for each."""
    for name in ("", "launchers"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                _guard(handler)


def _guard(handler: logging.StreamHandler[TextIO]) -> None:
    usual = handler.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None and is_closed(error):
            discard(handler.stream)
        else:
            usual(record)

    handler.handleError = handle  # type: ignore[method-assign]

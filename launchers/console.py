"""The console of a command: no secret reaches it in a text of others, and its reader may leave, as that of `| head` does."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TextIO

from launchers.capture import current
from launchers.secrecy import SecretFilter, scrub

_FILTER = SecretFilter()


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


@contextlib.contextmanager
def quiet_interrupt() -> Iterator[None]:
    """Ctrl-C ends a command with one word and exit code 130, wherever it strikes; to a caller in Python it stays an exception.

    Raises:
        SystemExit: in place of KeyboardInterrupt, of which Python makes a traceback and a death by signal.
    """
    try:
        yield
    except KeyboardInterrupt:
        if current() is not None:
            raise
        print("Interrupted.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None


def guard_console() -> None:
    """Clean what is logged and every traceback, of libraries too; drop lines to a closed console instead of a traceback for each."""
    logging.getLogger("launchers").addFilter(_FILTER)
    for name in ("", "launchers"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(_FILTER)
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                _guard(handler)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_traceback
        threading.excepthook = _show_thread


def _show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(scrub("".join(traceback.format_exception(kind, error, trace))))


def _show_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and failed.exc_type is not SystemExit:
        _show_traceback(failed.exc_type, failed.exc_value, failed.exc_traceback)


def _guard(handler: logging.StreamHandler[TextIO]) -> None:
    usual = handler.handleError

    def handle(record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if error is not None and is_closed(error):
            discard(handler.stream)
        else:
            usual(record)

    handler.handleError = handle  # type: ignore[method-assign]

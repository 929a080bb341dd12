"""Standard output and error into a pipe whose reader may leave, as that of `| head -1` does."""

from __future__ import annotations

import io
import os
import stat
import sys
from typing import Any


class PipeEnd(io.FileIO):
    """The writing end of a pipe. When its reader is gone, what follows goes nowhere: a training that prints goes on, and a task
    whose output is its purpose asks `reader_is_gone`."""

    gone = False

    def write(self, data: Any) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            self.gone = True
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self.fileno())  # for libraries and child processes, too
            os.close(null)
            return len(data)


def outlive_reader() -> None:
    """Put `PipeEnd` beneath this process's standard output and error where these are pipes."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            is_pipe = stream is getattr(sys, f"__{name}__") and stat.S_ISFIFO(os.fstat(number).st_mode)
        except OSError:
            continue
        if is_pipe and stream.fileno() == number:
            stream.flush()
            raw = PipeEnd(number, "w", closefd=False)
            buffer = io.BufferedWriter(raw)
            settings = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
            setattr(sys, name, io.TextIOWrapper(buffer, write_through=name == "stderr", **settings))


def reader_is_gone() -> bool:
    """Whether nobody reads this process's standard output any more."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, PipeEnd) and raw.gone

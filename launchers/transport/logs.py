"""A job's log, here: in a file whose length says where to go on, and line by line on the console as it comes."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from launchers.clock import Clock
from launchers.console import discard, is_closed
from launchers.errors import LaunchError
from launchers.host import JobRunner
from launchers.job import JobSpec
from launchers.settings import RentalSettings
from launchers.text import shown_log
from launchers.transport.names import LOG_NAME

LINE_BYTES = 1 << 16
"""A line is shown up to here; the file has all of it."""
CUT = b" ... (the rest of this line is only in remote.log)"
_MARKER = b"\n[launchers: %016d bytes of this log were dropped here, see provider.max_log_mb]\n"
_MARKER_PATTERN = re.compile(re.escape(_MARKER % 0).replace(b"0" * 16, rb"(\d{16})"))
_console_lock = threading.Lock()


class KeptLog:
    """The file `remote.log`: every byte once, up to a limit. Beyond that the middle is dropped, and a marker says how much.

    The first half of the limit stays for good. Of what follows, the newest quarter is kept each time the file is full, so that
    each byte is copied once at most.
    """

    def __init__(self, path: Path, limit: float) -> None:
        self.path = path
        self._head = int(limit) // 2
        self._limit = self._head * 2
        path.touch()

    @property
    def length(self) -> int:
        """Bytes that have come, those that were dropped too."""
        size = self.path.stat().st_size
        dropped = self._dropped()
        return size if dropped is None else size - len(_MARKER % 0) + dropped

    def append(self, chunk: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(chunk)
            size = file.tell()
        if size > self._limit:
            self._drop(size)

    def _dropped(self) -> int | None:
        """What the marker says; None while there is none."""
        with self.path.open("rb") as file:
            file.seek(self._head)
            found = _MARKER_PATTERN.fullmatch(file.read(len(_MARKER % 0)))
        return int(found[1]) if found else None

    def _drop(self, size: int) -> None:
        dropped = self._dropped()
        start = self._head if dropped is None else self._head + len(_MARKER % 0)
        end = size - self._limit // 4
        if end <= start:
            return
        writing = self.path.with_name(f".{LOG_NAME}.writing")
        with self.path.open("rb") as old, writing.open("wb") as new:
            _copy(old, new, self._head)
            new.write(_MARKER % ((dropped or 0) + end - start))
            old.seek(end)
            _copy(old, new, size - end)
        os.replace(writing, self.path)


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0 and (chunk := source.read(min(count, 1 << 20))):
        target.write(chunk)
        count -= len(chunk)


class LineCutter:
    """Whole lines out of what arrives. A line that is too long is cut; none is copied more than once or twice."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def lines(self, chunk: bytes) -> Iterator[bytes]:
        """A progress bar's redraws are lines too."""
        *whole, rest = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for part in whole:
            self._take(part)
            yield from self.rest()
        self._take(rest)

    def rest(self) -> Iterator[bytes]:
        """The line that has not ended, if it holds anything."""
        line, long = b"".join(self._parts), self._size > LINE_BYTES
        self._parts, self._size = [], 0
        if line.strip():
            yield line + CUT if long else line

    def _take(self, part: bytes) -> None:
        kept = part[: max(LINE_BYTES - self._size, 0)]
        if kept:
            self._parts.append(kept)
        self._size += len(part)


class Console:
    """Prints lines of foreign text: no control sequence of theirs reaches the terminal."""

    def __init__(self, out: TextIO | None = None, prefix: str = "", renamed: tuple[str, str] | None = None) -> None:
        self.out = out if out is not None else sys.stdout
        self._prefix, self._renamed = prefix, renamed
        self._colors = self.out.isatty()

    def show(self, lines: list[bytes]) -> None:
        text = "".join(f"{self._prefix}{shown_log(line.decode(errors='replace'), self._colors)}\n" for line in lines)
        if self._renamed:
            text = text.replace(*self._renamed)
        if text:
            encoding = self.out.encoding or "utf-8"
            with _console_lock:
                self.out.write(text.encode(encoding, "backslashreplace").decode(encoding))
                self.out.flush()


class LogMirror:
    """The local copy of a job's log. `base` is how long it was when the job came to its present machine.

    On the console, where the job names its output folder on the machine (`there`), this machine's `folder` is named: that
    is where a command that it proposes will find its results. The copy keeps the bytes as they were, and does so whatever
    becomes of the console.
    """

    def __init__(
        self, job: JobSpec, base: int, prefix: str = "", there: str | None = None, console: TextIO | None = None
    ) -> None:
        job.home.mkdir(parents=True, exist_ok=True)
        megabytes = job.settings.get("max_log_mb", RentalSettings.max_log_mb)
        self._kept = KeptLog(job.home / LOG_NAME, float(megabytes) * 1e6)
        self._base = base
        self._console = Console(console, prefix, (there, str(job.home)) if there else None)
        self._cutter = LineCutter()
        self.is_watched = True
        """False once nobody reads the console."""

    @property
    def length(self) -> int:
        """Bytes of the whole log that have come, from whatever machine."""
        return self._kept.length

    @property
    def offset(self) -> int:
        """Bytes of the machine's log that have come."""
        return self._kept.length - self._base

    def missing(self, size: int) -> int:
        """How many bytes of the machine's log, which is so long, are not here."""
        return max(size - self.offset, 0)

    def feed(self, chunk: bytes) -> None:
        """Keep the bytes, then show the whole lines among them."""
        self._kept.append(chunk)
        self._show(list(self._cutter.lines(chunk)))

    def close(self) -> None:
        """Show an unfinished last line."""
        self._show(list(self._cutter.rest()))

    def _show(self, lines: list[bytes]) -> None:
        if not self.is_watched:
            return
        try:
            self._console.show(lines)
        except (OSError, ValueError) as error:
            if is_closed(error):
                self.is_watched = False
                discard(self._console.out)


class LogStream:
    """Follows a job's log in a thread of its own, through broken connections, until the job has ended or `stop` is called."""

    def __init__(self, runner: JobRunner, job: JobSpec, mirror: LogMirror, clock: Clock, first_pause: float) -> None:
        self._runner, self._job, self._mirror = runner, job, mirror
        self._clock, self._first_pause = clock, first_pause
        self._stop = threading.Event()
        self._at_end = threading.Event()
        self._over = threading.Event()
        clock.start(self._run, f"log-{job.id}")

    def _run(self) -> None:
        try:
            self._follow()
        finally:
            self._over.set()

    def _follow(self) -> None:
        pause = self._first_pause
        while not self._stop.is_set():
            try:
                for chunk in self._runner.follow(self._job, self._mirror.offset):
                    self._mirror.feed(chunk)
                    pause = self._first_pause
                    if self._stop.is_set():
                        return
                self._at_end.set()
                return
            except (LaunchError, OSError):  # an OSError is of this disk: what does not fit now comes later
                self._clock.wait(self._stop, pause)
                pause = min(pause * 2, 30.0)

    def wait(self, seconds: float) -> None:
        """Until the log has come to its end, which it does once, or the time is over."""
        if self._clock.wait(self._at_end, seconds):
            self._at_end.clear()

    def drained(self, seconds: float) -> bool:
        """Whether the log of a job that has ended is wholly here; waits so long for it."""
        return self._clock.wait(self._over, seconds)

    def finish(self) -> None:
        """Let go, and show a last line that was not finished."""
        self._stop.set()
        self._mirror.close()

    def stop(self) -> None:
        """Let go at once."""
        self._stop.set()

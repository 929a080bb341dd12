"""A job's log, here: every byte once, in a file whose size says where to go on; whole lines on the console as they come."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TextIO

from launchers.clock import Clock
from launchers.errors import BadMachine, LaunchError, Unreachable
from launchers.host import Host
from launchers.job import JobSpec

LOG_NAME = "remote.log"
_console_lock = threading.Lock()


class LogMirror:
    """The local copy of a job's log. `base` is how long it was when the job came to its present machine.

    On the console, where the job names its output folder on the machine (`there`), this machine's `folder` is named: that
    is where a command that it proposes will find its results. The copy keeps every byte as it was.
    """

    def __init__(
        self, folder: Path, base: int, prefix: str = "", there: str | None = None, console: TextIO | None = None
    ) -> None:
        self.path = folder / LOG_NAME
        self._folder, self._there = folder, there
        self._base = base
        self._prefix = prefix
        self._console = console if console is not None else sys.stdout
        folder.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        self._rest = b""

    @property
    def offset(self) -> int:
        """Bytes of the machine's log that are here."""
        return self.path.stat().st_size - self._base

    def feed(self, chunk: bytes) -> None:
        """Keep the bytes, then show the whole lines among them; a progress bar's redraws become lines."""
        with self.path.open("ab") as file:
            file.write(chunk)
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._show(lines)

    def close(self) -> None:
        """Show an unfinished last line."""
        if self._rest:
            self._show([self._rest])
            self._rest = b""

    def _show(self, lines: list[bytes]) -> None:
        text = "".join(f"{self._prefix}{line.decode(errors='replace')}\n" for line in lines if line.strip())
        if self._there:
            text = text.replace(self._there, str(self._folder))
        if text:
            with _console_lock:
                self._console.write(text)
                self._console.flush()


class LogStream:
    """Follows a job's log in a thread of its own, through broken connections, until the job has ended or `stop` is called."""

    def __init__(self, host: Host, job: JobSpec, mirror: LogMirror, clock: Clock, first_pause: float) -> None:
        self._host, self._job, self._mirror = host, job, mirror
        self._clock, self._first_pause = clock, first_pause
        self._stop = threading.Event()
        self._at_end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name=f"log-{job.id}")
        self._thread.start()

    def _follow(self) -> None:
        pause = self._first_pause
        while not self._stop.is_set():
            try:
                for chunk in self._host.follow(self._job, self._mirror.offset):
                    self._mirror.feed(chunk)
                    pause = self._first_pause
                    if self._stop.is_set():
                        return
                self._at_end.set()
                return
            except (Unreachable, BadMachine):
                self._stop.wait(pause)
                pause = min(pause * 2, 30.0)
            except LaunchError:
                return

    def wait(self, seconds: float) -> None:
        """Until the log has come to its end, which it does once, or the time is over."""
        if self._at_end.wait(seconds):
            self._at_end.clear()

    def drained(self, seconds: float) -> bool:
        """Whether the log of a job that has ended is wholly here; waits so long for it."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def finish(self) -> None:
        """Let go, and show a last line that was not finished."""
        self._stop.set()
        self._mirror.close()

    def stop(self) -> None:
        """Let go at once."""
        self._stop.set()

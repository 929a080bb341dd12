"""A word about work that takes longer than a moment, from a thread of its own: one large file may be what takes so long."""

from __future__ import annotations

import logging
import threading

FIRST_S = 1.0
NEXT_S = 5.0


class Progress:
    """Use as a context manager around the work."""

    def __init__(self, log: logging.Logger, doing: str) -> None:
        self._log, self._doing = log, doing
        self._over = threading.Event()
        self._files, self._bytes, self._current = 0, 0, ""
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def note(self, name: str, size: int) -> None:
        """The next file is begun."""
        self._files += 1
        self._bytes += size
        self._current = name

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pause = FIRST_S
        while not self._over.wait(pause):
            self._log.info(
                "%s: file %d, %.1f MB so far, now %s", self._doing, self._files, self._bytes / 1e6, self._current
            )
            pause = NEXT_S

"""A call's log as Modal streams it, collected in a thread of its own so that nobody has to wait for the next line."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass

MOST_PIECES = 1000
"""That wait in memory for whoever reads them; the rest waits at Modal."""


@dataclass(frozen=True)
class Piece:
    """Some bytes of a log; where they end may cut a line in two."""

    text: bytes
    end: int
    """Bytes of the log up to here."""
    at: float
    """Seconds since the epoch, by Modal's clock."""

    def after(self, offset: int) -> bytes:
        """What of it lies beyond `offset`."""
        return self.text[max(len(self.text) - max(self.end - offset, 0), 0) :]


class LogPieces:
    """Follows one call from the start of its log; the platform's own words are left out."""

    def __init__(self, call_id: str) -> None:
        self.over = False
        self._call_id = call_id
        self._pieces: queue.Queue[Piece | BaseException | None] = queue.Queue(MOST_PIECES)
        threading.Thread(target=self._collect, daemon=True, name=f"pieces-{call_id}").start()

    def _collect(self) -> None:
        import modal

        end = 0
        try:
            for entry in modal.FunctionCall.from_id(self._call_id).logs.stream():
                if str(entry.source) == "stdout":
                    text = entry.message.encode()
                    end += len(text)
                    self._pieces.put(Piece(text, end, entry.timestamp.timestamp()))
        except BaseException as error:
            self._pieces.put(error)
        else:
            self._pieces.put(None)

    def arrived(self, silence: float) -> Iterator[Piece]:
        """What has come, until nothing more comes for so many seconds.

        Raises:
            Exception: what ended the stream, if it was an error.
        """
        while not self.over:
            try:
                piece = self._pieces.get(timeout=silence)
            except queue.Empty:
                return
            if isinstance(piece, Piece):
                yield piece
                continue
            self.over = True
            if piece is not None:
                raise piece

"""SIGTERM and Ctrl-C: the step in hand is finished, a checkpoint written, and the job ends so that it can be continued."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from summarizer.errors import SummarizerError


class Interrupted(SummarizerError):
    """The job was asked to stop and saved itself."""


class StopRequest:
    """Set by a signal, read by the training loop between steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: the user does not want to wait for the checkpoint
        self.signal = number


@contextmanager
def listening() -> Iterator[StopRequest]:
    """While inside, SIGTERM and SIGINT set the request instead of ending the process."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers; whoever runs us in another decides itself
        return
    previous = {number: signal.signal(number, request.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

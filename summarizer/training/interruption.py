"""SIGTERM and Ctrl-C: the step in hand is finished, a checkpoint written, and the job ends so that it can be continued."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from summarizer.errors import Interrupted

STOPS = {128 + signal.SIGTERM, 128 + signal.SIGINT}  # exit codes of a process that a signal has asked to stop


def resume_command(folder: Path) -> str:
    return f"python -m summarizer resume={shlex.quote(str(folder))}"


def stopped_at(step: int, total_steps: int, folder: Path) -> Interrupted:
    """What a training says that has stopped and saved itself."""
    return Interrupted(f"Stopped at step {step:,} of {total_steps:,}; saved. Continue: {resume_command(folder)}")


def is_stop(error: BaseException) -> bool:
    """Whether a job ended because it was asked to, by SIGTERM or Ctrl-C, wherever it was."""
    if isinstance(error, SystemExit):
        # between its own steps Lightning makes exit(1) of Ctrl-C, and a class of its own of SIGTERM
        return error.code in STOPS or isinstance(error.__context__, KeyboardInterrupt) or type(error) is not SystemExit
    return isinstance(error, KeyboardInterrupt | Interrupted)


class StopRequest:
    """Set by a signal, read by the training loop between steps."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            # asked twice: the user does not want to wait for the checkpoint. No KeyboardInterrupt, which Lightning swallows
            raise SystemExit(128 + number)
        self.signal = number


@contextmanager
def listening() -> Iterator[StopRequest]:
    """While inside, SIGTERM and SIGINT set the request instead of ending the process; a signal that is ignored stays so."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # only the main thread may set handlers; whoever runs us in another decides itself
        return
    numbers = [number for number in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""A way to run commands on another machine: what the agent speaks through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Commands(Protocol):
    """Methods may be called from several threads. All may raise `Unreachable`, and `RemoteError` for a command that failed."""

    def run(self, command: str, source: Iterable[bytes] = (), timeout: float | None = 120) -> bytes:
        """Run a command with `source` as its standard input; returns the beginning of its standard output."""

    def stream(self, command: str, timeout: float | None = None) -> Iterator[bytes]:
        """The standard output of a command as it comes."""

    def open(self, command: str, timeout: float | None) -> Any:
        """Start a command to talk with; the caller closes the channel."""

    def send(self, channel: Any, data: bytes) -> None: ...

    def receive(self, channel: Any) -> bytes:
        """What came; nothing at the end."""

    def check(self, channel: Any, command: str) -> None:
        """Raise unless the command ended well."""

    def is_open(self, channel: Any) -> bool: ...

    def close(self) -> None: ...

    def cut(self) -> None:
        """End it for good, whatever it does now; takes no lock, since who holds one may wait for the machine."""

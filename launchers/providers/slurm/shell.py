"""Where Slurm's commands run: this computer, or a login node behind the user's own ssh.

A `Shell` has the methods of `launchers.transport.ssh.Connection`, so that the same agent speaks through it. It starts the
system's `ssh`, not paramiko: clusters are reached by what stands in `~/.ssh/config` (jump hosts, agents, multiplexing).
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator

from launchers.errors import RemoteError, Unreachable
from launchers.secrecy import scrub

LIVES_S = 60
"""How long ssh keeps a connection to the login node open for the next command."""
SSH_FAILED = 255
"""Exit code with which ssh itself fails."""
KEPT_BYTES = 1 << 20
LOOKED_AT, SHOWN = 8000, 4000
"""Bytes of what a failed command wrote, and characters of that which are told."""


class Channel:
    """A command that runs."""

    def __init__(self, words: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        try:
            self.process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
            )
        except OSError as error:
            raise Unreachable(f"{words[0]} could not be started: {error}.") from None
        self.timeout: float | None = None

    def settimeout(self, timeout: float | None) -> None:
        self.timeout = timeout

    def receive(self) -> bytes:
        assert self.process.stdout is not None
        end = None if self.timeout is None else time.monotonic() + self.timeout
        while True:
            left = 1.0 if end is None else min(1.0, end - time.monotonic())
            if left <= 0:
                raise Unreachable("The command on the cluster did not answer in time.")
            try:
                if select.select([self.process.stdout], [], [], left)[0]:
                    return os.read(self.process.stdout.fileno(), 1 << 16)
            except (OSError, ValueError):
                raise Unreachable("The connection to the cluster was ended here.") from None

    def errors(self) -> str:
        with contextlib.suppress(ValueError, OSError):
            self._errors.seek(0)
            # Cleaned before it is cut: half a secret is still one.
            return scrub(self._errors.read(LOOKED_AT).decode(errors="replace"))[:SHOWN].strip()
        return ""

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.process.kill()
        for file in (self.process.stdin, self.process.stdout, self._errors):
            with contextlib.suppress(OSError, ValueError):
                if file is not None:
                    file.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


class Shell:
    """Runs commands where Slurm is. Methods may be called from several threads."""

    def __init__(self, login: str | None) -> None:
        self.login = login
        self._lock = threading.Lock()
        self._open: set[Channel] = set()
        self._is_cut = False

    @property
    def place(self) -> str:
        return self.login or "this computer"

    def run(self, command: str, source: Iterable[bytes] = (), timeout: float | None = 120) -> bytes:
        """Run a command with `source` as its standard input; returns the beginning of its standard output.

        Raises:
            Unreachable: the login node could not be reached.
            RemoteError: it ended with an error.
        """
        channel = self.open(command, timeout)
        try:
            threading.Thread(target=self._feed, args=(channel, source), daemon=True).start()
            parts = []
            while chunk := channel.receive():
                parts.append(chunk)
            self.check(channel, command)
            return b"".join(parts)[:KEPT_BYTES]
        finally:
            self._drop(channel)

    def stream(self, command: str, timeout: float | None = None) -> Iterator[bytes]:
        """The standard output of a command as it comes."""
        channel = self.open(command, timeout)
        try:
            self._feed(channel, ())
            while chunk := channel.receive():
                yield chunk
            self.check(channel, command)
        finally:
            self._drop(channel)

    def open(self, command: str, timeout: float | None) -> Channel:
        """Start a command to talk with; the caller closes the channel."""
        with self._lock:
            if self._is_cut:
                raise Unreachable("The connection to the cluster was ended here.")
        channel = Channel(self._words(command))
        channel.settimeout(timeout)
        with self._lock:
            self._open.add(channel)
        return channel

    def send(self, channel: Channel, data: bytes) -> None:
        assert channel.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # a command that has ended takes nothing: `check` tells why
            channel.process.stdin.write(data)
            channel.process.stdin.flush()

    def receive(self, channel: Channel) -> bytes:
        """What came; nothing at the end."""
        return channel.receive()

    def check(self, channel: Channel, command: str) -> None:
        """Raise unless the command ended well."""
        try:
            code = channel.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Unreachable("The command on the cluster did not end.") from None
        if code == SSH_FAILED and self.login:
            raise Unreachable(f"ssh {self.login} failed: {channel.errors() or 'no reason given'}.")
        if code != 0:
            raise RemoteError(channel.errors() or f"`{command[:80]}` ended with {code}")

    @staticmethod
    def is_open(channel: Channel) -> bool:
        return channel.process.poll() is None

    def close(self) -> None:
        with self._lock:
            channels, self._open = self._open, set()
        for channel in channels:
            channel.close()

    def cut(self) -> None:
        """End it for good, whatever it does now."""
        self._is_cut = True
        self.close()

    def _words(self, command: str) -> list[str]:
        if self.login is None:
            return ["sh", "-c", command]
        control = os.path.join(tempfile.gettempdir(), f"launchers-ssh-{os.getuid()}-%C")
        options = (
            "BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=5", "ServerAliveCountMax=4", "ControlMaster=auto",
            f"ControlPath={control}", f"ControlPersist={LIVES_S}",
        )  # fmt: skip
        return ["ssh", *(word for option in options for word in ("-o", option)), self.login, command]

    def _feed(self, channel: Channel, source: Iterable[bytes]) -> None:
        assert channel.process.stdin is not None
        with contextlib.suppress(
            OSError, ValueError
        ):  # it ended early: what it said is worth more than the broken pipe
            for chunk in source:
                channel.process.stdin.write(chunk)
            channel.process.stdin.close()

    def _drop(self, channel: Channel) -> None:
        with self._lock:
            self._open.discard(channel)
        channel.close()

"""One ssh connection to one machine, renewed when it breaks; the machine's host key is pinned at the first contact."""

from __future__ import annotations

import contextlib
import logging
import shlex
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launchers.errors import BadMachine, RemoteError, Unreachable
from launchers.job import Address
from launchers.secrecy import scrub
from launchers.transport.keys import KeyPair

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT_S = 15
SILENCE_MS = 20_000
"""A connection whose packets stay unanswered for this long is dead; ssh's own keepalive does not notice it."""
WINDOW = 1 << 21
KEPT_BYTES = 1 << 20
"""Of a command's output and of its errors, each."""
EXIT_STATUS_S = 60.0
"""Between the end of a command's output and its exit code."""


def preload() -> None:
    """Import what a login needs, while the machine still boots: it takes longer than the login."""
    import paramiko  # noqa: F401


@dataclass
class Connection:
    """Runs commands on a machine over one connection. Methods may be called from several threads."""

    addresses: tuple[Address, ...]
    keys: KeyPair
    host_key: str | None
    """"TYPE BASE64", or None before the first contact."""
    pin: Callable[[str], None]
    """Called once with the host key, to keep it."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None
        self._is_cut = False

    def run(self, command: str, source: Iterable[bytes] = (), timeout: float | None = 120) -> bytes:
        """Run a command with `source` as its standard input; returns the beginning of its standard output.

        Raises:
            Unreachable: the connection failed before the command ended.
            RemoteError: it ended with an error.
        """
        import paramiko

        with self._channel(command, timeout) as channel:
            reader = _Drain(channel)
            try:
                for chunk in source:
                    channel.sendall(chunk)
                channel.shutdown_write()
            except (OSError, EOFError, paramiko.SSHException):
                # The command ended early: what it said about it is worth more than the broken pipe.
                pass
            return reader.result(command)

    def stream(self, command: str, timeout: float | None = None) -> Iterator[bytes]:
        """The standard output of a command as it comes."""
        with self._channel(command, timeout) as channel:
            _guarded(channel.shutdown_write)
            while chunk := _guarded(lambda: channel.recv(1 << 16)):
                yield chunk
            _check(channel, command, channel.recv_stderr(4000))

    def open(self, command: str, timeout: float | None) -> Any:
        """Start a command to talk with; the caller closes the channel."""
        transport = self._transport()

        def open_channel() -> Any:
            channel = transport.open_session(window_size=WINDOW, timeout=CONNECT_TIMEOUT_S)
            channel.settimeout(timeout)
            channel.exec_command(command)
            return channel

        return _guarded(open_channel)

    def send(self, channel: Any, data: bytes) -> None:
        import paramiko

        # A command that has ended takes nothing, nor does a connection that broke: `receive` and `check` tell which.
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.sendall(data)

    def receive(self, channel: Any) -> bytes:
        """What came; nothing at the end."""
        return bytes(_guarded(lambda: channel.recv(1 << 16)))

    def check(self, channel: Any, command: str) -> None:
        """Raise unless the command ended well."""
        _check(channel, command, channel.recv_stderr(4000))

    @staticmethod
    def is_open(channel: Any) -> bool:
        return not channel.closed and not channel.eof_received and channel.get_transport().is_active()

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def cut(self) -> None:
        """End it for good, whatever it does now; takes no lock, since who holds one may wait for the machine."""
        self._is_cut = True
        client = self._client
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def _channel(self, command: str, timeout: float | None) -> Iterator[Any]:
        channel = self.open(command, timeout)
        try:
            yield channel
        finally:
            with contextlib.suppress(Exception):
                channel.close()

    def _transport(self) -> Any:
        with self._lock:
            if self._is_cut:
                raise Unreachable("The connection to the machine was ended here.")
            transport = self._client.get_transport() if self._client else None
            if transport is None or not transport.is_active():
                self._client = self._connect()
                if self._is_cut:
                    self._client.close()
                transport = self._client.get_transport()
            return transport

    def _connect(self) -> Any:
        import paramiko

        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what matters of it is raised, and told in our words
        problem: Exception | None = None
        for address in self.addresses:
            client = paramiko.SSHClient()
            client.set_missing_host_key_policy(_Pin(self))
            if self.host_key is not None:
                name = address.host if address.port == 22 else f"[{address.host}]:{address.port}"
                kind, _, blob = self.host_key.partition(" ")
                client.get_host_keys().add(name, kind, paramiko.PKey.from_type_string(kind, _decoded(blob)))
            try:
                wire = socket.create_connection((address.host, address.port), timeout=CONNECT_TIMEOUT_S)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MS)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.connect(
                    address.host, address.port, username=address.user, key_filename=str(self.keys.private), sock=wire,
                    allow_agent=False, look_for_keys=False, timeout=CONNECT_TIMEOUT_S, banner_timeout=CONNECT_TIMEOUT_S,
                    auth_timeout=CONNECT_TIMEOUT_S,
                )  # fmt: skip
                transport = client.get_transport()
                assert transport is not None
                transport.set_keepalive(10)
                return client
            except paramiko.BadHostKeyException:
                client.close()
                raise BadMachine(
                    f"The machine at {address.host}:{address.port} shows another host key than before: not the one we rented."
                ) from None
            except (OSError, EOFError, paramiko.SSHException) as error:
                client.close()
                problem = error
        where = ", ".join(f"{a.host}:{a.port}" for a in self.addresses) or "an unknown address"
        raise Unreachable(f"No ssh to the machine at {where} ({problem}).") from problem


class _Pin:
    """Trusts the first host key it sees and keeps it; any later one must be the same."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        line = f"{key.get_name()} {key.get_base64()}"
        if self._connection.host_key not in (None, line):
            raise BadMachine(f"The machine at {hostname} shows another host key than before: not the one we rented.")
        if self._connection.host_key is None:
            self._connection.host_key = line
            self._connection.pin(line)


class _Drain:
    """Reads a command's output while its input is still being written, so that neither side blocks."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._parts: list[bytes] = []
        self._errors: list[bytes] = []
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            self._read_into(self._parts, self._channel.recv)
            self._read_into(self._errors, self._channel.recv_stderr)
        except Exception as error:
            self._problem = error

    @staticmethod
    def _read_into(parts: list[bytes], receive: Callable[[int], bytes]) -> None:
        """All is read, and only the first `KEPT_BYTES` are kept."""
        left = KEPT_BYTES
        while chunk := _guarded(lambda: receive(1 << 16)):
            parts.append(chunk[:left])
            left -= len(parts[-1])

    def result(self, command: str) -> bytes:
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        _check(self._channel, command, b"".join(self._errors))
        return b"".join(self._parts)


def _check(channel: Any, command: str, errors: bytes) -> None:
    """Raise unless the command ended well. -1 stands for a dead connection and for death by signal alike."""
    if not channel.status_event.wait(EXIT_STATUS_S):
        raise Unreachable("The machine does not say how a command of ours ended.")
    code = channel.recv_exit_status()
    if code == -1 and not channel.get_transport().is_active():
        raise Unreachable("The connection to the machine broke.")
    if code != 0:
        words = errors.decode(errors="replace").strip().splitlines()
        raise RemoteError(
            f"{_short(command)} ended with {code}: {scrub(words[-1])[:500] if words else 'no reason given'}"
        )


def _guarded(act: Callable[[], Any]) -> Any:
    """`act()`, with every way in which a connection can fail turned into `Unreachable`."""
    import paramiko

    try:
        return act()
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise Unreachable(f"The connection to the machine broke ({type(error).__name__}).") from error


def _decoded(blob: str) -> bytes:
    import base64

    return base64.b64decode(blob)


def _short(command: str) -> str:
    """The agent's command without its paths."""
    words = shlex.split(command)
    return " ".join(words[5:7]) if len(words) > 5 else command[:60]

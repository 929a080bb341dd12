"""The agent on a machine: brought there and started once a connection, then asked line by line; a question is one round trip."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from launchers.errors import BadMachine, RemoteError, Unreachable
from launchers.remote.messages import Question
from launchers.transport import messages
from launchers.transport.commands import Commands

NOISE_BYTES = 1 << 16
"""What a machine's shell may print before our program speaks: a welcome, not a book."""

_BOOT = """
import json, os, sys
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            sys.exit("the connection broke")
        data += part
    return data
folder, root, mark = sys.argv[1:]
archive = take(int(take(12)))
if not os.path.isdir(folder):
    partial = "%s.%d" % (folder, os.getpid())
    os.makedirs(partial, mode=0o700)
    for name, text in json.loads(archive.decode()).items():
        with open(os.path.join(partial, name), "w", encoding="utf-8") as file:
            file.write(text)
    try:
        os.rename(partial, folder)
    except OSError:
        import shutil
        shutil.rmtree(partial)
path = os.path.join(folder, "agent.py")
sys.argv = [path, root, mark, "serve"]
with open(path, encoding="utf-8") as file:
    program = compile(file.read(), path, "exec")
exec(program, {"__name__": "__main__", "__file__": path})
"""
"""Unpacks the agent unless it is there, and becomes it. Its folder is named by its text, so that versions never mix."""


class Agent:
    """Methods may be called from several threads; questions wait for each other, bulk transfers do not."""

    def __init__(self, connection: Commands, root: str) -> None:
        self._connection = connection
        self._root = root
        self._lock = threading.Lock()
        self._channel: Any = None
        self._lines = _Lines(self._receive)
        self._deadline: float | None = None
        self._python = "python3"
        self._mark = secrets.token_hex(16)
        archive = _archive()
        self._hello = b"%012d" % len(archive) + archive
        self.folder = f"{root}/agent/{sha256(archive).hexdigest()[:12]}"

    def ask(self, act: str, request: Any, timeout: float | None = 120, longest: int = messages.LINE_BYTES) -> Any:
        """The answer of `launchers/remote/agent.py` to one question; `messages` knows what it may be.

        Args:
            request: of the class that `launchers.remote.messages.QUESTIONS` names for the act.
            timeout: seconds for the whole answer, however it trickles in.
            longest: bytes of it that are read.

        Raises:
            Unreachable: the connection failed before the answer came; the act may have been done.
            RemoteError: the act failed.
            BadMachine: what came is no answer.
        """
        with self._lock:
            try:
                self._ensure_started()
                question = json.dumps(Question(act, vars(request)), default=vars).encode() + b"\n"
                answer, error = messages.reply(self._exchange(question, timeout, longest))
            except BaseException:
                self._drop()
                raise
        if error is not None:
            raise RemoteError(f"{act} failed: {error}")
        return answer

    def stream(self, *words: str, timeout: float | None = None) -> Iterator[bytes]:
        """The output of a bulk transfer, which runs beside the questions; nobody has checked how much comes.

        Raises:
            Unreachable, RemoteError, BadMachine: as `ask`.
        """
        return after(f"\n{self._mark}\n".encode(), self._connection.stream(self._command(words), timeout))

    def send(self, *words: str, source: Iterator[bytes], timeout: float | None) -> None:
        """Give a bulk transfer its input."""
        self._connection.run(self._command(words), source, timeout)

    def _command(self, words: tuple[str, ...]) -> str:
        with self._lock:
            self._ensure_started()
        return shlex.join([self._python, "-S", f"{self.folder}/agent.py", self._root, self._mark, *words])

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ensure_started(self) -> None:
        if self._channel is not None and not self._connection.is_open(self._channel):
            self._drop()
        if self._channel is None:
            words = ["python3", "-S", "-c", _BOOT, self.folder, self._root, self._mark]
            self._channel = self._connection.open(shlex.join(words), 120)
            try:
                self._connection.send(self._channel, self._hello)
                self._deadline = time.monotonic() + 120
                self._skip_noise()
                self._python = messages.hello(messages.parsed(self._lines.next(messages.LINE_BYTES)))
            except RemoteError as error:
                raise BadMachine(f"The machine has no usable Python 3: {error}.") from None

    def _skip_noise(self) -> None:
        """What a `.bashrc` prints comes before our program's first line."""
        skipped = 0
        while (line := self._lines.next(NOISE_BYTES)) != self._mark.encode():
            skipped += len(line) + 1
            if skipped > NOISE_BYTES:
                raise BadMachine("the machine's shell prints without end before our program can speak")

    def _exchange(self, question: bytes, timeout: float | None, longest: int) -> dict[str, Any]:
        self._channel.settimeout(timeout)
        self._connection.send(self._channel, question)
        self._deadline = None if timeout is None else time.monotonic() + timeout
        return messages.parsed(self._lines.next(longest))

    def _receive(self) -> bytes:
        if self._deadline is not None:
            self._channel.settimeout(max(self._deadline - time.monotonic(), 0.001))
        chunk = self._connection.receive(self._channel)
        if not chunk:
            self._connection.check(self._channel, "the agent")
            raise Unreachable("The agent on the machine stopped.")
        return chunk

    def _drop(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(Exception):  # a broken connection refuses even this
                self._channel.close()
        self._channel, self._lines = None, _Lines(self._receive)


class _Lines:
    """Cuts what arrives into lines. Each byte is copied once or twice, however long a line is."""

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self._rest = b""

    def next(self, longest: int) -> bytes:
        """
        Raises:
            BadMachine: the line is longer than that.
        """
        parts, size, chunk = [], 0, self._rest
        while True:
            head, found, tail = chunk.partition(b"\n")
            parts.append(head)
            size += len(head)
            if size > longest:
                raise BadMachine(f"the machine gave an answer of more than {longest / 1e6:.1f} MB")
            if found:
                self._rest = tail
                return b"".join(parts)
            chunk = self._receive()


def after(mark: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """What follows a mark in a stream.

    Raises:
        BadMachine: it does not come.
    """
    seen = b""
    for chunk in chunks:
        seen += chunk
        before, found, rest = seen.partition(mark)
        if found:
            if rest:
                yield rest
            yield from chunks
            return
        if len(before) > NOISE_BYTES:
            raise BadMachine("the machine's shell prints without end before our program can speak")
    raise BadMachine("our program on the machine ended before it spoke")


@functools.cache
def _archive() -> bytes:
    """The agent's modules by name, the same bytes for the same text."""
    folder = Path(__file__).parents[1] / "remote"
    return json.dumps({path.name: path.read_text() for path in sorted(folder.glob("*.py"))}).encode()

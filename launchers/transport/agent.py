"""The agent on a machine: brought there and started once a connection, then asked line by line; a question is one round trip."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import tarfile
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

from launchers.errors import BadMachine, RemoteError, Unreachable
from launchers.transport.ssh import Connection

_BOOT = """
import io, os, shutil, sys, tarfile
def take(count):
    data = b""
    while len(data) < count:
        part = os.read(0, count - len(data))
        if not part:
            sys.exit("the connection broke")
        data += part
    return data
folder, root = sys.argv[1:]
archive = take(int(take(12)))
if not os.path.isdir(folder):
    partial = "%s.%d" % (folder, os.getpid())
    os.makedirs(partial, mode=0o700)
    tarfile.open(fileobj=io.BytesIO(archive)).extractall(partial)
    try:
        os.rename(partial, folder)
    except OSError:
        shutil.rmtree(partial)
os.execv(sys.executable, [sys.executable, "-S", os.path.join(folder, "agent.py"), root, "serve"])
"""
"""Unpacks the agent unless it is there, and becomes it. Its folder is named by its text, so that versions never mix."""


class Agent:
    """Methods may be called from several threads; questions wait for each other, bulk transfers do not."""

    def __init__(self, connection: Connection, root: str) -> None:
        self._connection = connection
        self._root = root
        self._lock = threading.Lock()
        self._channel: Any = None
        self._buffer = b""
        self._python = "python3"
        archive = _archive(Path(__file__).parents[1] / "remote")
        self._hello = b"%012d" % len(archive) + archive
        self._folder = f"{root}/agent/{sha256(archive).hexdigest()[:12]}"

    def ask(self, act: str, *arguments: Any, timeout: float | None = 120) -> Any:
        """The answer of `launchers/remote/agent.py` to one question.

        Raises:
            Unreachable: the connection failed before the answer came; the act may have been done.
            RemoteError: the act failed.
        """
        with self._lock:
            try:
                self._ensure_started()
                self._channel.settimeout(timeout)
                reply = self._exchange(json.dumps({"act": act, "arguments": arguments}).encode() + b"\n")
            except BaseException:
                self._drop()
                raise
        if "error" in reply:
            raise RemoteError(f"{act} failed: {reply['error']}")
        return reply["answer"]

    def command(self, *words: str) -> str:
        """The shell command of a bulk transfer, which runs beside the questions."""
        with self._lock:
            self._ensure_started()
        return shlex.join([self._python, "-S", f"{self._folder}/agent.py", self._root, *words])

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _ensure_started(self) -> None:
        if self._channel is not None and not self._connection.is_open(self._channel):
            self._drop()
        if self._channel is None:
            self._channel = self._connection.open(shlex.join(["python3", "-c", _BOOT, self._folder, self._root]), 120)
            try:
                self._python = self._exchange(self._hello)["python"]
            except RemoteError as error:
                raise BadMachine(f"The machine has no usable Python 3: {error}.") from None

    def _exchange(self, question: bytes) -> dict[str, Any]:
        self._connection.send(self._channel, question)
        while b"\n" not in self._buffer:
            chunk = self._connection.receive(self._channel)
            if not chunk:
                self._connection.check(self._channel, "the agent")
                raise Unreachable("The agent on the machine stopped.")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return dict(json.loads(line))

    def _drop(self) -> None:
        if self._channel is not None:
            with contextlib.suppress(Exception):  # a broken connection refuses even this
                self._channel.close()
        self._channel, self._buffer = None, b""


def _archive(folder: Path) -> bytes:
    """A tar of the folder's modules, the same bytes for the same text."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.glob("*.py")):
            info = tarfile.TarInfo(path.name)
            info.size = path.stat().st_size
            info.mode = 0o600
            archive.addfile(info, io.BytesIO(path.read_bytes()))
    return buffer.getvalue()

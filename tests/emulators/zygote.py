"""A process with the libraries of a client imported, that forks clients: most of a short client's time is importing them.

A client is what `python -m MODULE ARGUMENTS` is: a process of its own with its own environment, folder and standard files. Only
libraries of others are there before; ours are imported by each client anew, by itself.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

LIBRARIES = (
    "hydra", "hydra._internal.hydra", "hydra._internal.utils", "hydra.core.hydra_config", "hydra.core.plugins", "hydra.core.utils",
    "hydra.types", "omegaconf", "paramiko", "requests", "yaml", "sqlite3", "platformdirs",
    "modal_proto.api_grpc", "grpclib.client", "aiohttp", "synchronicity", "rich.console", "typer",
)  # fmt: skip


class Client:
    """A client of a zygote, with what tests use of `subprocess.Popen`."""

    def __init__(self, connection: socket.socket, pid: int, stdout: IO[str] | None) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._connection = connection
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._said: list[str] = []

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout or 0.001):
            raise subprocess.TimeoutExpired("a client", timeout or 0)
        try:
            if self.returncode is None:
                self._connection.settimeout(None if timeout is None else max(timeout, 0.001))
                try:
                    answer = self._connection.recv(64)
                except TimeoutError:
                    raise subprocess.TimeoutExpired("a client", timeout or 0) from None
                assert answer, "the zygote has died"
                self.returncode = int(answer)
                self._connection.close()
            return self.returncode
        finally:
            self._lock.release()

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """Everything that it still prints, until it has ended."""
        assert self.stdout is not None
        if self._reader is None:  # a pipe that nobody reads would stop it
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        self.wait(timeout)
        self._reader.join()
        return "".join(self._said), None

    def _read(self) -> None:
        assert self.stdout is not None
        self._said.extend(self.stdout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Starts clients. Use as a context manager."""

    def __init__(self) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = Path(__file__).resolve().parents[2]
        self._process = subprocess.Popen(
            [sys.executable, "-u", __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=root, start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self._lock = threading.Lock()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *error: object) -> None:
        self._ours.close()
        self._process.wait(20)

    def start(self, module: str, *arguments: str, cwd: Path, env: dict[str, str]) -> Client:
        """A client whose output and errors come by one pipe."""
        order = json.dumps({"module": module, "arguments": arguments, "cwd": str(cwd), "env": env}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reading, writing = os.pipe()
        with self._lock:
            socket.send_fds(self._ours, [order], [writing, theirs.fileno()])
        os.close(writing)
        theirs.close()
        return Client(ours, int(ours.recv(64)), os.fdopen(reading, errors="replace"))


def outcome_of(client: Client, timeout: float = 120) -> tuple[int, str]:
    """The exit code of a client, and what it printed."""
    said, _ = client.communicate(timeout)
    assert client.returncode is not None
    return client.returncode, said


def serve(orders: socket.socket) -> None:
    """Until the other side goes away."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            __import__(name)
    while True:
        order, descriptors, _, _ = socket.recv_fds(orders, 1 << 20, 2)
        if not order:
            return
        writing, line = descriptors
        # The child of a child: whoever reaps it tells its end.
        if os.fork() == 0:
            orders.close()
            _keep(json.loads(order), writing, socket.socket(fileno=line))
            os._exit(0)
        os.close(writing)
        os.close(line)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _keep(order: dict[str, Any], writing: int, line: socket.socket) -> None:
    pid = os.fork()
    if pid == 0:
        line.close()
        for descriptor in (1, 2):
            os.dup2(writing, descriptor)
        os.close(writing)
        _be(order)
    os.close(writing)
    line.send(str(pid).encode())
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _be(order: dict[str, Any]) -> None:
    """What the interpreter does for `python -m`, from here on."""
    os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.stdout = open(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.argv = [order["module"], *order["arguments"]]
    sys.path[:1] = ["", *order["env"].get("PYTHONPATH", "").split(os.pathsep)]
    code = 1
    try:
        runpy.run_module(order["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))

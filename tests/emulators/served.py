"""What every emulated provider shares: an HTTP server on loopback, planted faults, and the end of its machines."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from tests.emulators import hostile
from tests.emulators.cage import Cage
from tests.emulators.market import Faults


class Machine(Protocol):
    """One rental, as far as the shared parts know it."""

    cage: Cage


@dataclass
class Delays:
    """How long the emulated market takes, in seconds."""

    loading: float = 0.1
    sshd: float = 0.1
    """From `running` to the first login, which on the real market is refused at first."""


@dataclass
class Served:
    """A provider's state and its HTTP server. Use as a context manager."""

    folder: Path
    key: str = field(default_factory=lambda: f"emulated-{secrets.token_hex(8)}")
    """New in each emulator: one that stands in a file would be refused by the scan of what ships."""
    delays: Delays = field(default_factory=Delays)
    faults: Faults = field(default_factory=Faults)
    credit: float = 25.0
    gpu_on_machine: str | None = None
    """What a fake nvidia-smi reports; null installs none."""
    disk_mb: int | None = None
    boots: list[str] = field(default_factory=list)
    """How the next machines come up; the words are the provider's."""
    hostile: str | None = None
    """What the owner of the next machines does, a mode of `hostile.py`; null: he is honest."""
    victim: str = ""
    """A path of the client that such a machine is after."""
    noise: str = ""
    """What the next machines' `.bashrc` does."""
    requests: list[str] = field(default_factory=list)
    port: int = 0

    unauthorized = (401, {"success": False, "error": "auth_error", "msg": "Invalid user key"})
    planted: ClassVar[dict[str, Any]] = {"success": False, "error": "planted", "msg": "planted"}
    """Body of an error that a test planted."""

    def __enter__(self) -> Any:
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler_of(self))
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for machine in self.machines():
            machine.cage.kill()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def furnish(self, cage: Cage) -> None:
        """What a machine has that is not what it should be."""
        if self.hostile:
            cage.install("python3", hostile.interpreter(self.hostile, self.victim))
        (cage.folder / "home" / ".bashrc").write_text(self.noise)

    # --- what a provider adds

    def machines(self) -> Iterable[Machine]:
        """Every machine there ever was."""
        raise NotImplementedError

    def bill(self) -> list[dict[str, Any]]:
        raise NotImplementedError

    def preempt(self, number: Any) -> None:
        raise NotImplementedError

    def authorized(self, token: str, method: str, path: str) -> bool:
        return token == self.key

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """One authenticated request."""
        raise NotImplementedError


def _handler_of(market: Served) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _serve(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            market.requests.append(f"{self.command} {url.path}")
            if url.path == "/bill":
                return self._reply(200, market.bill())
            if url.path.startswith("/preempt/"):
                name = url.path.rsplit("/", 1)[1]
                market.preempt(int(name) if name.isdigit() else name)
                return self._reply(200, {"success": True})
            fault = market.faults.take(self.command, url.path)
            if fault is not None and fault.action == "drop":
                return self._hang_up()
            if fault is not None and isinstance(fault.action, int):
                return self._reply(fault.action, fault.body or market.planted)
            if fault is not None and fault.action == "refuse":
                return self._reply(200, market.planted)
            if fault is not None and fault.action == "page":
                return self._reply(403, None)
            if fault is not None and fault.action == "text":
                return self._reply(200, None)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if not market.authorized(token, self.command, url.path):
                return self._reply(*market.unauthorized)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            status, answer = market.answer(self.command, url.path, query, body)
            if fault is not None and fault.action == "lost":
                return self._hang_up()
            return self._reply(status, answer)

        do_GET = do_POST = do_PUT = do_DELETE = _serve

        def _reply(self, status: int, answer: Any) -> None:
            if status == 204:
                self.send_response(status)
                return self.end_headers()
            data = b"<html>down for maintenance</html>" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.close()

    return Handler

"""`Modal`: the emulator as one object, on threads of its own. Use as a context manager."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpclib.const
import grpclib.server
from aiohttp import web
from grpclib import GRPCError, Status
from modal_proto.api_grpc import ModalClientBase

from tests.emulators.market import Faults
from tests.emulators.modal.control import Control
from tests.emulators.modal.state import ALPHABET, App
from tests.emulators.modal.storage import Storage

Answer = TypeVar("Answer")


def _mapping() -> dict[str, Any]:
    blank = type("Blank", (ModalClientBase,), {})
    blank.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]
    return dict(blank().__mapping__())


class _Service:
    """Every RPC of the client's own interface, led to the method of its name."""

    def __init__(self, modal: Modal, control: Control) -> None:
        self._modal, self._control = modal, control
        self._answered: dict[str, Any] = {}

    def __mapping__(self) -> dict[str, Any]:
        return {
            path: handler._replace(func=self._answer(path.rpartition("/")[2], handler.cardinality))
            for path, handler in _mapping().items()
        }

    def _answer(self, name: str, cardinality: Any) -> Callable[[Any], Any]:
        method = getattr(self._control, name, None)

        async def answer(stream: Any) -> None:
            request = await stream.recv_message()
            task = self._modal.admit(name, request, stream.metadata)
            if method is None:
                raise GRPCError(Status.UNIMPLEMENTED, f"{name} is not emulated")
            key = stream.metadata.get("x-idempotency-key", "")
            # A client's network fails, not that of the containers.
            fault = None if task else self._modal.faults.take("rpc", name)
            if fault is not None and fault.action != "lost":
                raise GRPCError(Status[str(fault.action)], f"{name}: planted")
            try:
                if cardinality is grpclib.const.Cardinality.UNARY_STREAM:
                    async for message in method(request, task):
                        await stream.send_message(message)
                else:
                    reply = self._answered.get(str(key)) or await method(request, task)
                    if fault is not None:
                        # The client asks again under the same key, and must not be served twice.
                        self._answered[str(key)] = reply
                        raise GRPCError(Status.UNAVAILABLE, f"{name}: acted, the answer was lost")
                    await stream.send_message(reply)
            except AssertionError as error:
                raise GRPCError(Status.INTERNAL, repr(error)) from error

        return answer


@dataclass
class Modal:
    """The control plane, its byte server and its containers."""

    folder: Path
    token_id: str = field(default_factory=lambda: "ak-" + "".join(secrets.choice(ALPHABET) for _ in range(22)))
    token_secret: str = field(default_factory=lambda: "as-" + "".join(secrets.choice(ALPHABET) for _ in range(22)))
    """New in each emulator: ones that stand in a file would be refused by the scan of what ships."""
    faults: Faults = field(default_factory=Faults)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    """Every request of a client, in order; a secret's values are left out."""

    @property
    def variables(self) -> dict[str, str]:
        """What a client's environment must hold."""
        return {
            "MODAL_SERVER_URL": self.control.url, "MODAL_TOKEN_ID": self.token_id, "MODAL_TOKEN_SECRET": self.token_secret,
            "MODAL_CONFIG_PATH": str(self.folder / "absent.toml"), "MODAL_DISABLE_API_PROXY": "1",
        }  # fmt: skip

    def __enter__(self) -> Modal:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.new_event_loop()
        # Each container keeps two threads waiting for its output.
        self._loop.set_default_executor(ThreadPoolExecutor(256))
        self._thread = threading.Thread(target=self._loop.run_forever, name="emulated-modal", daemon=True)
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def ask(self, act: Callable[[], Answer]) -> Answer:
        """Something about the state, on the loop that owns it."""

        async def acting() -> Answer:
            return act()

        answer: Answer = self._do(acting())
        return answer

    async def _start(self) -> None:
        storage = Storage(self.folder)
        self.control = Control(storage, self.folder)
        self._grpc = grpclib.server.Server([_Service(self, self.control)])
        await self._grpc.start("127.0.0.1", 0)
        assert self._grpc._server is not None
        self.control.url = f"http://127.0.0.1:{_port(self._grpc._server)}"
        application = web.Application(client_max_size=1 << 30)
        application.add_routes(storage.routes())
        application.add_routes([web.post("/control/{act}", self._control_by_hand), web.get("/control", self._look)])
        self._web = web.AppRunner(application, shutdown_timeout=0.5)
        await self._web.setup()
        site = web.TCPSite(self._web, "127.0.0.1", 0)
        await site.start()
        storage.url = f"http://127.0.0.1:{_port(site._server)}"
        self._scheduler = self._loop.create_task(self.control.run())

    async def _stop(self) -> None:
        self._scheduler.cancel()
        await asyncio.gather(self._scheduler, return_exceptions=True)
        await self.control.end()
        self._grpc.close()
        await self._web.cleanup()

    def admit(self, name: str, request: Any, metadata: Any) -> str:
        """Who asks: a container's task id, or "" for a client with the right token."""
        task = str(metadata.get("x-fake-task", ""))
        if task in self.control.tasks:
            return task
        if (metadata.get("x-modal-token-id"), metadata.get("x-modal-token-secret")) != (
            self.token_id,
            self.token_secret,
        ):
            raise GRPCError(Status.UNAUTHENTICATED, "Token validation failed")
        kept = type(request)()
        kept.CopyFrom(request)
        if name == "SecretGetOrCreate":
            names = list(kept.env_dict)
            kept.env_dict.clear()
            kept.env_dict.update(dict.fromkeys(names, ""))
        self.requests.append((name, kept))
        return ""

    # --- what tests and people do

    def requested(self, name: str) -> list[Any]:
        return [request for made, request in list(self.requests) if made == name]

    def counts(self) -> Counter[str]:
        return Counter(name for name, _ in list(self.requests))

    def live_apps(self) -> list[App]:
        """Apps that still exist: with a client, with calls, or both."""
        return self.ask(lambda: [app for app in self.control.apps.values() if app.live])

    def running(self) -> int:
        return self.ask(lambda: len(self.control.running()))

    def working(self) -> int:
        """Containers that have taken their input: one that is killed while it is being made can outlive that."""
        return self.ask(lambda: sum(bool(task.fetched) for task in self.control.running()))

    def preempt(self, number: int = 0) -> None:
        """Take the container away from the job that runs longest, or a later one."""
        self.ask(lambda: self.control.preempt(self.control.running()[number]))

    def crash(self, number: int = 0) -> None:
        """End a container as lack of memory does."""
        self.ask(lambda: self.control.running()[number].kill())

    def expire(self) -> None:
        """Forget the results of all calls so far."""
        for call in self.control.calls.values():
            call.expired = True

    def attempts(self) -> list[list[dict[str, Any]]]:
        """The containers that each input had, by call."""
        return self.ask(lambda: [i.attempts for c in self.control.calls.values() for i in c.inputs])

    async def _control_by_hand(self, request: web.Request) -> web.Response:
        act, query = request.match_info["act"], request.query
        number = int(query.get("number", 0))
        try:
            if act == "preempt":
                self.control.preempt(self.control.running()[number])
            elif act == "crash":
                self.control.running()[number].kill()
            elif act == "fault":
                self.faults.plant("rpc", query["rpc"], query.get("status", "UNAVAILABLE"), int(query.get("times", 1)))
            elif act == "build":
                self.control.fail_build = query.get("fail", "1") == "1"
            else:
                return web.json_response({"error": f"no act {act!r}"}, status=404)
        except IndexError:
            return web.json_response({"error": "no such container runs"}, status=409)
        return await self._look(request)

    async def _look(self, request: web.Request) -> web.Response:
        control = self.control
        return web.json_response(
            {
                "apps": [{"id": a.id, "name": a.description, "live": a.live} for a in control.apps.values()],
                "running": [{"task": t.id, "call": t.call_id} for t in control.running()],
                "calls": [
                    {"id": c.id, "ended": c.settled.is_set(), "attempts": [i.attempts for i in c.inputs]}
                    for c in control.calls.values()
                ],
                "requests": len(self.requests),
            }
        )


def _port(server: Any) -> int:
    return int(server.sockets[0].getsockname()[1])

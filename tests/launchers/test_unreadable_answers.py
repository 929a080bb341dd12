"""An API that answers with JSON of another shape than its documentation says: trouble of the provider, never a traceback of ours."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from launchers.errors import LaunchError
from launchers.providers.base import Need, Provider
from launchers.providers.jarvis.provider import Jarvis
from launchers.providers.jarvis.settings import JarvisSettings
from launchers.providers.runpod.provider import Runpod
from launchers.providers.runpod.settings import RunpodSettings
from launchers.providers.vast.provider import Vast
from launchers.providers.vast.settings import VastSettings

PROVIDERS: list[tuple[Callable[..., Provider], Any]] = [
    (Vast, VastSettings), (Jarvis, JarvisSettings), (Runpod, RunpodSettings),
]  # fmt: skip
ROWS = ("a text", ["a text"], [None], [7], {"id": "a", "gpu": {}}, None, [{"id": []}])
NAMES = (
    "offers",
    "instances",
    "gpus",
    "gpu_types",
    "pods",
    "items",
    "server_meta",
    "data",
    "credit",
    "balance",
    "currency",
    "ssh_keys",
)
ANSWERS = [*ROWS, *(dict.fromkeys(NAMES, rows) for rows in ROWS)]


@pytest.fixture(scope="module")
def api() -> Iterator[tuple[str, list[Any]]]:
    """An address where every request gets the last answer of the list."""
    answers: list[Any] = [None]

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = json.dumps(answers[-1]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: json.dumps(answer)[:40])
@pytest.mark.parametrize(("make", "settings"), PROVIDERS, ids=["vast", "jarvis", "runpod"])
def test_what_makes_no_sense_is_said_to_be_unreadable(make, settings, answer, api):
    url, answers = api
    answers.append(answer)
    provider = make("emulated-key", url)
    need = Need("RTX 4090", 1, 8, 10, 0, None, False, 5.0, settings())
    asked: list[Callable[[], object]] = [
        lambda: provider.offers(need), provider.list_mine, lambda: provider.status("1"), provider.account_keys,
        lambda: provider.destroy("1"), lambda: provider.remove_account_key("1"),
    ]  # fmt: skip
    for ask in asked:
        with contextlib.suppress(LaunchError):  # anything else fails the test
            ask()

"""What the machine's watchdog does: it is started once, waits for a lease, and asks the provider for the end."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import launchers.remote

TERMS = {"seconds": 1000, "idle": 1000, "destruct": None}


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As it runs on a machine: a script beside the others."""
    monkeypatch.syspath_prepend(str(Path(launchers.remote.__file__).parent))
    return importlib.import_module("watchdog")


class _Over(BaseException):
    """The watchdog never returns: a test ends it so."""


def ticking(monkeypatch: pytest.MonkeyPatch, watchdog: ModuleType, ticks: list[Any]) -> None:
    """Each sleep of the watchdog does the next thing of a list; after the last, it ends."""

    def sleep(seconds: float) -> None:
        if not ticks:
            raise _Over
        act = ticks.pop(0)
        if act is not None:
            act()

    own = SimpleNamespace(sleep=sleep, time=time.time, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(watchdog, "time", own)


def test_a_machine_is_watched_once_however_many_leases_it_gets(watchdog: ModuleType, tmp_path: Path):
    assert watchdog.lease(str(tmp_path), SimpleNamespace(**TERMS)).made
    note, deadline = tmp_path / "watchdog.json", time.monotonic() + 20
    watcher = None
    while watcher is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError):
            watcher = json.loads(note.read_text())["pid"]
        time.sleep(0.01)
    assert watcher is not None
    try:
        assert os.getsid(watcher) not in (os.getsid(0), watcher)  # the end of ssh's session does not end it
        assert not watchdog.lease(str(tmp_path), SimpleNamespace(**TERMS | {"seconds": 5000})).made
        assert json.loads((tmp_path / "lease.json").read_text())["ends"] == pytest.approx(time.time() + 5000, abs=60)
    finally:
        os.kill(watcher, signal.SIGKILL)


def test_a_watcher_that_died_is_replaced(watchdog: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "watchdog.json").write_text(json.dumps({"pid": os.getpid(), "birth": "another time"}))
    forks: list[int] = []
    monkeypatch.setattr(watchdog.os, "fork", lambda: forks.append(1) or 12345)
    monkeypatch.setattr(watchdog.os, "waitpid", lambda pid, flags: forks.append(pid))
    assert watchdog.lease(str(tmp_path), SimpleNamespace(**TERMS)).made
    assert forks == [1, 12345]


@pytest.fixture
def provider() -> Iterator[tuple[str, list[Any]]]:
    """The address of a provider's interface, and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append((self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def over(url: str = "", **headers: str) -> str:
    """A lease that has ended long ago; without an address, of a machine that can't end itself."""
    request = {"method": "DELETE", "url": url, "headers": headers} if url else None
    return json.dumps({"ends": time.time() - 5000, "idle": 1, "destruct": request})


def test_it_waits_for_a_lease_and_asks_for_the_end_with_the_machines_own_key_until_it_is_gone(
    watchdog: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: tuple[str, list[Any]]
):
    address, asked = provider
    monkeypatch.setenv("EMULATED_ID", "77")
    monkeypatch.setenv("EMULATED_KEY", "not-for-the-log")
    lease = over(address + "/machines/{EMULATED_ID}", Authorization="Bearer {EMULATED_KEY}")
    # two looks, of which the first finds no lease; a pause after each request
    ticking(monkeypatch, watchdog, [None, lambda: (tmp_path / "lease.json").write_text(lease), None, None, None])
    with pytest.raises(_Over):
        watchdog.watch(str(tmp_path))
    assert asked == [("/machines/77", "Bearer not-for-the-log", b"{}")] * 2
    said = (tmp_path / "watchdog.log").read_text()
    assert said.count("the lease is over") == said.count("asked for the end: 200") == 2
    assert "not-for-the-log" not in said


def test_a_machine_that_may_live_or_can_not_end_itself_asks_nobody(
    watchdog: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: tuple[str, list[Any]]
):
    lives = json.dumps({"ends": time.time() + 900, "idle": 900, "destruct": json.loads(over(provider[0]))["destruct"]})
    (tmp_path / "lease.json").write_text(lives)
    ticking(monkeypatch, watchdog, [None, lambda: (tmp_path / "lease.json").write_text(over()), None])
    with pytest.raises(_Over):
        watchdog.watch(str(tmp_path))
    assert provider[1] == []
    assert "the lease is over" in (tmp_path / "watchdog.log").read_text()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/{EMULATED_KEY}", "http://127.0.0.1:9/{NO_SUCH_VARIABLE}"])
def test_trouble_in_asking_is_told_without_the_key_and_tried_again(
    watchdog: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
):
    monkeypatch.setenv("EMULATED_KEY", "not-for-the-log")
    (tmp_path / "lease.json").write_text(over(url))
    ticking(monkeypatch, watchdog, [None] * 4)
    with pytest.raises(_Over):
        watchdog.watch(str(tmp_path))
    said = (tmp_path / "watchdog.log").read_text()
    assert said.count("could not ask for the end") == 2
    assert "not-for-the-log" not in said

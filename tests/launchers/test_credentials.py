"""An API key is what it should be, goes to its provider alone, and is never repeated."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.errors import CredentialError, LaunchError, MendInput
from launchers.ledger import launchers_home
from launchers.providers import open_provider
from tests.emulators.jarvis import Jarvis
from tests.emulators.vast import Vast
from tests.launchers.conftest import KEY_VARIABLES

KEY = "s3cr3t" + "0123456789abcdef"
MARKETS = {"vast": Vast, "jarvis": Jarvis}
on_both = pytest.mark.parametrize("provider", list(MARKETS))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder without anybody's keys."""
    for name in [*KEY_VARIABLES.values(), "XDG_CONFIG_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str | None]]]:
    """Somebody who listens on loopback, and what he was sent as a key."""
    heard: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            heard.append(self.headers.get("Authorization"))
            self.send_response(404)
            self.end_headers()

        do_POST = do_PUT = do_DELETE = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", heard
    server.shutdown()
    server.server_close()


@on_both
def test_the_accounts_key_goes_to_no_other_address(provider: str, listener, monkeypatch: pytest.MonkeyPatch):
    url, heard = listener
    monkeypatch.setenv(KEY_VARIABLES[provider], KEY)
    for address in (url, "https://evil.example", "https://vast.ai.evil.example", "http://console.vast.ai"):
        with pytest.raises(CredentialError) as caught:
            open_provider(provider, address)
        assert KEY not in str(caught.value)
    for odd in (
        "https://console.vast.ai@evil.example",
        "https://evil.example\\@console.vast.ai",
        "ftp://a",
        "console.vast.ai",
    ):
        with pytest.raises(MendInput, match="is no address"):
            open_provider(provider, odd)
    assert heard == []


@on_both
def test_an_emulators_key_goes_to_an_emulator_but_never_in_clear_text_over_a_network(provider: str, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLES[provider], "emulated-0123456789")
    for address in ("http://127.0.0.1:8787", "http://localhost:8787", "http://[::1]:8787", "https://rehearsal.example"):
        open_provider(provider, address)
    with pytest.raises(CredentialError, match="is not encrypted"):
        open_provider(provider, "http://10.0.0.7:8787")


@pytest.mark.parametrize("address", [None, "https://console.vast.ai", "https://candidate.vast.ai/"])
def test_the_accounts_key_goes_to_the_providers_own_hosts(address: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VAST_API_KEY", KEY)
    open_provider("vast", address)


@on_both
def test_a_redirect_does_not_carry_the_key_elsewhere(provider: str, listener, tmp_path: Path, monkeypatch):
    url, heard = listener
    elsewhere = url.replace("127.0.0.1", "localhost")

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(307)
            self.send_header("Location", elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_PUT = do_DELETE = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv(KEY_VARIABLES[provider], "emulated-0123456789")
    with pytest.raises(LaunchError):
        open_provider(provider, f"http://127.0.0.1:{server.server_port}").list_mine()
    server.shutdown()
    server.server_close()
    assert set(heard) <= {None}


def test_a_home_folder_of_another_user_is_refused_and_an_open_one_closed(tmp_path: Path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("LAUNCHERS_HOME", str(home))
    assert launchers_home().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(MendInput, match="belongs to another user"):
        launchers_home()

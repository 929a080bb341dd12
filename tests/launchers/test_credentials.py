"""An API key is what it should be, goes to its provider alone, and is never repeated."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.credentials import check_passed, checked, fingerprint
from launchers.errors import CredentialError, LaunchError, MendInput, RetryLater, Unreachable
from launchers.ledger import Ledger, launchers_home
from launchers.providers import open_provider
from tests.launchers.conftest import KEY_VARIABLES, MARKETS, environment

KEY = "s3cr3t" + "0123456789abcdef"
on_each = pytest.mark.parametrize("provider", list(MARKETS))


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


@on_each
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


@on_each
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


@on_each
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


FAULTY = {
    "a line break": f"{KEY}\nsecond line",
    "a carriage return": f"{KEY}\rmore",
    "a blank": f"{KEY} more",
    "a quotation mark": f"\u201c{KEY}\u201d",
    "a character that is not ASCII": f"{KEY}\u00e9",
}


@on_each
@pytest.mark.parametrize("what", FAULTY)
@pytest.mark.parametrize("place", ["environment", "file"])
def test_a_key_that_can_be_none_is_refused_where_it_is_read(provider, what, place, own_home: Path, monkeypatch):
    if place == "environment":
        monkeypatch.setenv(KEY_VARIABLES[provider], FAULTY[what])
    elif provider == "vast":
        write_private(own_home / ".vast_api_key", FAULTY[what] + "\n")
    else:
        text = FAULTY[what].replace("\n", "\\n").replace("\r", "\\r")
        place_of = {
            "jarvis": (own_home / ".config" / "jl" / "config.toml", f'[auth]\ntoken = "{text}"\n'),
            "runpod": (own_home / ".runpod" / "config.toml", f'apikey = "{text}"\n'),
        }
        write_private(*place_of[provider])
    with pytest.raises(CredentialError, match=f"holds {what}, which no key has") as caught:
        open_provider(provider)
    assert "s3cr3t" not in str(caught.value)
    assert "second" not in str(caught.value)


@on_each
def test_neither_a_command_nor_a_launch_repeats_a_key_that_can_be_none(provider: str, project: Path, tmp_path: Path):
    bad = {
        KEY_VARIABLES[provider]: FAULTY["a line break"],
        "LAUNCHERS_HOME": str(tmp_path / "home"),
        "HOME": str(tmp_path),
    }
    for command in (["launchers", "doctor"], ["launchers", "offers"], ["descent", f"provider={provider}", "steps=1"]):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=project,
            env=environment(**bad),
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = done.stdout + done.stderr
        assert done.returncode == 1
        assert "holds a line break, which no key has" in " ".join(said.split())
        assert "Traceback" not in said
        assert "s3cr3t" not in said
        assert "second line" not in said
    assert all(b"s3cr3t" not in path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())


def test_a_token_of_modal_that_can_be_none_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1\nsecond")
    with pytest.raises(CredentialError, match="MODAL_TOKEN_SECRET holds a line break"):
        open_provider("modal")


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY"])
def test_a_key_that_is_passed_on_is_checked_too(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(name, f"{KEY}\n")
    with pytest.raises(CredentialError, match=f"{name} holds a line break"):
        check_passed([name])
    monkeypatch.setenv("NOTES", "two\nlines")
    check_passed(["NOTES"])


def test_the_end_of_a_key_files_line_is_no_part_of_the_key(own_home: Path):
    write_private(own_home / ".vast_api_key", f"{KEY}\r\n")
    assert open_provider("vast").account == fingerprint(checked(KEY, "here"))


def test_other_peoples_error_texts_lose_the_key_before_anybody_reads_or_stores_them(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("VAST_API_KEY", KEY)
    assert KEY not in str(LaunchError(f"Invalid header value b'Bearer {KEY}'"))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.note("a launch", f"said {KEY}", 0.0)
    assert ledger.events("a launch") == [(0.0, "said [VAST_API_KEY]")]
    ledger.close()
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())


@on_each
def test_a_page_of_something_between_is_no_verdict_about_the_key(provider: str, tmp_path: Path, monkeypatch):
    with MARKETS[provider](tmp_path / "market") as market:
        monkeypatch.setenv(KEY_VARIABLES[provider], market.key)
        opened = open_provider(provider, market.url)
        market.faults.plant("GET", ".", "page", times=9)
        with pytest.raises(RetryLater, match="Something between this computer and") as caught:
            opened.list_mine()
        assert not isinstance(caught.value, Unreachable)
        market.faults.planted.clear()
        assert opened.list_mine() == []
        monkeypatch.setenv(KEY_VARIABLES[provider], "emulated-another")
        with pytest.raises(CredentialError, match="refuses the key"):
            open_provider(provider, market.url).list_mine()


def test_a_home_folder_of_another_user_is_refused_and_an_open_one_closed(tmp_path: Path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("LAUNCHERS_HOME", str(home))
    assert launchers_home().stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: home.stat().st_uid + 1)
    with pytest.raises(MendInput, match="belongs to another user"):
        launchers_home()


def write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)

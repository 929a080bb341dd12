"""No text of others brings a key to the console, into the ledger or into a file: every door is knocked at with a key in an error."""

from __future__ import annotations

import contextlib
import http.server
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.cli.main import run
from launchers.errors import LaunchError, RetryLater
from launchers.providers import open_provider
from launchers.providers.base import Need
from launchers.providers.slurm.shell import Shell
from launchers.secrecy import stored_keys
from launchers.testing.clock import VirtualClock
from launchers.testing.host import FakeHost
from launchers.testing.launch import FakeLaunch, Schedule
from launchers.testing.provider import FakeProvider
from launchers.transport.ssh import _check as check_command
from tests.launchers.conftest import KEY_VARIABLES, contents_below, environment

PROVIDERS = sorted(KEY_VARIABLES)
ANSWERS = {
    "JSON 400": (400, '{{"success": false, "error": "bad", "msg": "no {key}", "message": "no {key}", "detail": "no {key}"}}'),
    "JSON 401": (401, '{{"msg": "the key {key} is unknown", "message": "{key}", "detail": "{key}", "error": "{key}"}}'),
    "page 403": (403, "<!DOCTYPE html><html><body>Blocked: Authorization: Bearer {key}</body></html>"),
    "JSON 404": (404, '{{"msg": "{key}", "message": "{key}", "detail": "{key}", "error": "{key}"}}'),
    "text 500": (500, "Traceback: ValueError('{key}')"),
    "nonsense": (200, "{key}"),
}  # fmt: skip
NEED = Need(
    gpu="RTX 4090", num_gpus=1, gpu_memory_gib=8, disk_gb=20, download_mbps=0, region=None, spot=False, max_price=9.0, settings=None,
)  # fmt: skip
CALLS: dict[str, Callable[[Any], object]] = {
    "offers": lambda provider: provider.offers(NEED),
    "balance": lambda provider: provider.balance(),
    "list": lambda provider: provider.list_mine(),
    "status": lambda provider: provider.status("7"),
    "destroy": lambda provider: provider.destroy("7"),
    "keys": lambda provider: provider.account_keys(),
    "new key": lambda provider: provider.register_key("ssh-ed25519 AAAA launchers"),
}


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of every provider, and nobody else's on this computer."""
    drawn = f"emulated-{secrets.token_hex(12)}"
    for variable in KEY_VARIABLES.values():
        monkeypatch.setenv(variable, drawn)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAUNCHERS_HOME", str(tmp_path / "home"))
    stored_keys.cache_clear()
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # an SDK repeats what failed
    return drawn


@pytest.fixture
def gossip(key: str) -> Iterator[tuple[str, list[str]]]:
    """An address that answers every request with what is put into a list, its status and its text."""
    answer: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = answer
            body = text.format(key=key).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", answer
    server.shutdown()
    server.server_close()


def files_with(key: str, folder: Path) -> list[Path]:
    return [path for path, held in contents_below(folder).items() if key.encode() in held]


@pytest.mark.parametrize("said", list(ANSWERS))
@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_answer_that_quotes_the_key_is_told_without_it(provider: str, said: str, key: str, gossip: Any):
    url, answer = gossip
    answer[:] = ANSWERS[said]
    client = open_provider(provider, url)
    told = []
    for name, call in CALLS.items():
        with contextlib.suppress(AttributeError):  # not every provider has all of them
            try:
                call(client)
            except LaunchError as error:
                told.append(f"{name}: {error}")
    assert told
    assert key not in "".join(told)


@pytest.mark.parametrize("said", ["JSON 400", "JSON 401", "page 403"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_commands_show_no_key_that_an_answer_quotes(
    provider: str, said: str, key: str, gossip: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    url, answer = gossip
    answer[:] = ANSWERS[said]
    for command in (["doctor", "--provider", provider], ["offers", "--gpu", "4090", "--provider", provider]):
        with contextlib.suppress(SystemExit):
            run([*command, "--api-url", url])
        shown = capsys.readouterr()
        assert shown.out + shown.err
        assert key not in shown.out + shown.err
    assert files_with(key, tmp_path) == []


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("kind", ["InvalidHeader", "ConnectionError", "InvalidURL"])
def test_errors_of_the_http_libraries_are_told_without_the_key(provider: str, kind: str, key: str, monkeypatch):
    import httpx
    import requests

    def of_requests(*_: object, **__: object) -> None:
        raise getattr(requests.exceptions, kind)(f"Invalid header value b'Bearer {key}'")

    def of_httpx(*_: object, **__: object) -> None:
        raise (httpx.ConnectError if kind == "ConnectionError" else httpx.LocalProtocolError)(f"b'Bearer {key}'")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", of_requests)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", of_httpx)
    client = open_provider(provider, "http://127.0.0.1:9")
    for call in (CALLS["list"], CALLS["destroy"], CALLS["offers"]):
        with pytest.raises(LaunchError) as caught:
            call(client)
        assert key not in str(caught.value)


def test_errors_of_modal_are_told_without_the_token(key: str):
    import modal

    from launchers.providers.modal.exceptions import translated

    for kind in (
        modal.exception.AuthError, modal.exception.ConnectionError, modal.exception.InvalidError, modal.exception.NotFoundError,
        ValueError, OSError,
    ):  # fmt: skip
        with pytest.raises(LaunchError) as caught, translated():
            raise kind(f"token {key} is no good")
        assert key not in str(caught.value), kind


@pytest.mark.parametrize("before", [0, 3970])
@pytest.mark.parametrize("login", [None, "user@login"])
def test_errors_of_a_cluster_s_shell_are_told_without_the_key(
    login: str | None, before: int, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "ssh").write_text('#!/bin/sh\nfor last; do :; done\nsh -c "$last"\n')
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for code in (3, 255):
        with pytest.raises(LaunchError) as caught:
            Shell(login).run(f"printf %0{before}d 0 >&2; echo 'token {key} is no good' >&2; exit {code}")
        assert key[:8] not in str(caught.value)
        assert "token [" in str(caught.value)


def test_a_long_error_of_a_machine_is_cleaned_before_it_is_cut(key: str):
    class Ended:
        status_event = threading.Event()

        def recv_exit_status(self) -> int:
            return 1

    Ended.status_event.set()
    with pytest.raises(LaunchError) as caught:
        check_command(Ended(), "python3 agent.py", f"{'0' * 490}{key}\n".encode())
    assert key[:8] not in str(caught.value)


VERBS = {
    FakeProvider: ("offers", "create", "status", "destroy", "list_mine", "balance"),
    FakeHost: (
        "probe",
        "lease",
        "upload",
        "prepare",
        "start",
        "job_status",
        "manifest",
        "read",
        "follow",
        "stop",
    ),
}


@pytest.mark.parametrize("kind", [RetryLater, RuntimeError, OSError])
@pytest.mark.parametrize(("owner", "verb"), [(owner, verb) for owner, verbs in VERBS.items() for verb in verbs])
def test_a_launch_keeps_a_key_that_an_error_quotes_out_of_console_ledger_and_files(
    owner: type, verb: str, kind: type[Exception], key: str, tmp_path: Path, monkeypatch, capsys, caplog
):
    plain, calls = getattr(owner, verb), []

    def failing(*arguments: Any, **named: Any) -> Any:
        calls.append(verb)
        if len(calls) <= 3:
            raise kind(f"{verb} failed: Authorization: Bearer {key}")
        return plain(*arguments, **named)

    monkeypatch.setattr(owner, verb, failing)
    with VirtualClock() as clock:
        launch = FakeLaunch(tmp_path / "launch", Schedule(), clock)
        with contextlib.suppress(Exception):  # a mistake of ours is shown by Hydra or the interpreter; see below
            launch.run()
    shown = capsys.readouterr()
    assert calls or verb in ("stop", "balance")
    assert key not in "\n".join(launch.said) + shown.out + shown.err + caplog.text
    assert files_with(key, tmp_path) == []


@pytest.mark.parametrize("thread", [False, True])
def test_a_traceback_holds_no_key(thread: bool, key: str):
    program = (
        "import logging, os, threading; from launchers.console import guard_console; logging.basicConfig(); guard_console()\n"
        "def fail(): raise RuntimeError('Bearer ' + os.environ['VAST_API_KEY'])\n"
        "logging.getLogger('urllib3').error('retrying %s', os.environ['VAST_API_KEY'])\n"
        + ("thread = threading.Thread(target=fail); thread.start(); thread.join()" if thread else "fail()")
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(VAST_API_KEY=key), capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr
    assert "retrying" in done.stderr
    assert key not in done.stderr


def test_a_mistake_of_an_app_is_shown_by_hydra_without_the_key(descent: Callable[..., Any], project: Path, key: str):
    (project / "descent" / "check.py").write_text(
        "import os\ndef refuse(config):\n    raise RuntimeError('Bearer ' + os.environ['VAST_API_KEY'])\n"
    )
    done = descent(
        "+hydra.launcher.preflight=descent.check:refuse",
        "hydra.launcher.preflight=descent.check.refuse",
        VAST_API_KEY=key,
    )
    assert done.returncode
    assert "Bearer [VAST_API_KEY]" in done.stdout + done.stderr
    assert key not in done.stdout + done.stderr
    assert os.environ["VAST_API_KEY"] == key

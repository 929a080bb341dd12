"""A job on another machine gets the secrets that it can't do without, and no others."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from summarizer import environment
from tests.summarizer.composition import composed


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub with an open, a gated and a private repository; what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked.append(self.path)
            known = self.headers.get("Authorization") == "Bearer the-token"
            name = self.path.rpartition("/")[2]
            status = 200 if name in ("open", "gated") or (name == "private" and known) else 401
            body = json.dumps({"id": name, "gated": "manual" if name == "gated" else False}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "the-token")
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    environment.is_gated.cache_clear()
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ((), []),
        (("logger=wandb",), ["WANDB_API_KEY"]),
        (("logger=wandb", "task=evaluate"), []),
        (("export.push_to_hub=me/model",), ["HF_TOKEN"]),
        (("model=t5_small", "model.hub_id=a/open"), []),
        (("model=t5_small", "model.hub_id=a/gated"), ["HF_TOKEN"]),
        (("model=t5_small", "model.hub_id=a/private"), ["HF_TOKEN"]),
        (("model=t5_small", "model.hub_id=a/misspelled"), []),
        (("data=samsum", "data.hub_id=a/open"), []),
        (("data=samsum", "data.hub_id=a/private"), ["HF_TOKEN"]),
        (("data=files", "data.train_file=hf://datasets/a/private/train.csv"), ["HF_TOKEN"]),
    ],
)  # fmt: skip
def test_a_job_needs_what_its_config_uses(hub: list[str], overrides: tuple[str, ...], names: list[str]):
    assert environment.needed(composed(*overrides)) == names


def test_a_job_that_is_continued_needs_what_it_was_started_with(hub: list[str], tmp_path):
    (tmp_path / "config.yaml").write_text("model: {hub_id: a/gated}\ndata: {kind: auto}\n")
    assert environment.needed(composed(f"resume={tmp_path}")) == ["HF_TOKEN"]


def test_the_hub_is_asked_only_for_those_who_hold_a_token(hub: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_TOKEN")
    assert environment.needed(composed("model=t5_small", "model.hub_id=a/gated")) == []
    assert hub == []


def test_a_hub_that_does_not_answer_gets_a_sentence_and_the_machine_no_token(hub, monkeypatch, caplog):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert environment.needed(composed("model=t5_small", "model.hub_id=a/gated")) == []
    assert "provider.pass_environment=[HF_TOKEN]" in caplog.text


def test_every_rented_provider_hands_over_nothing_by_default():
    for provider in ("vast", "jarvis", "modal"):
        config = composed(f"provider={provider}", "hardware=a100")
        assert config.provider.pass_environment == []
        assert config.provider.needed_environment == "summarizer.environment:needed"

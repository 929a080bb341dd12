"""What a machine answers about a job's files, asked as a client asks: one JSON line each, to a process of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import launchers.remote

AGENT = Path(launchers.remote.__file__).parent / "agent.py"


@pytest.fixture
def ask(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, str(AGENT), str(tmp_path), "MARK", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as agent:
        assert agent.stdin
        assert agent.stdout
        assert [agent.stdout.readline() for _ in range(2)] == ["\n", "MARK\n"]
        agent.stdout.readline()

        def answer(act: str, **request: Any) -> Any:
            agent.stdin.write(json.dumps({"act": act, "request": request}) + "\n")
            agent.stdin.flush()
            said = json.loads(agent.stdout.readline())
            return said.get("answer", said)

        yield answer
        agent.stdin.close()


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs" / "j" / "output"
    folder.mkdir(parents=True)
    return folder


def fetched(ask: Callable[..., Any]) -> dict[str, bytes]:
    """Every file of the manifest, as far as its bytes have the digest that it says."""
    files = {}
    for row in ask("manifest", job="j")["rows"]:
        (text,) = ask("contents", job="j", files=[wanted(row)])["contents"]
        content = base64.b64decode(text)
        if hashlib.sha256(content).hexdigest() == row["digest"]:
            files[row["path"]] = content
    return files


def wanted(row: dict[str, Any]) -> dict[str, Any]:
    return {"path": row["path"], "offset": 0, "size": row["size"], "digest": row["digest"]}


@pytest.mark.parametrize("content", [b"", b"step 1\n"], ids=["empty", "filled"])
@pytest.mark.parametrize("change", [b"other\n", b"longer than before\n"], ids=["rewritten", "grown"])
@pytest.mark.parametrize("changed", ["a", "b"])
def test_of_two_equal_files_one_may_change_in_place(content, change, changed, ask, output):
    for name in ("a", "b"):
        (output / name).write_bytes(content)
    assert fetched(ask) == {"a": content, "b": content}
    (output / changed).write_bytes(change)  # the same file under the name that holds it
    assert fetched(ask) == {"a": content, "b": content} | {changed: change}


def test_a_file_that_is_replaced_after_the_manifest_arrives_as_it_was(ask, output):
    (output / "last.ckpt").write_bytes(b"first")
    (row,) = ask("manifest", job="j")["rows"]
    (output / "new").write_bytes(b"second")
    (output / "new").replace(output / "last.ckpt")
    assert base64.b64decode(ask("contents", job="j", files=[wanted(row)])["contents"][0]) == b"first"


def test_each_kind_of_entry_of_an_output_folder_is_named_as_what_it_is(ask, output, monkeypatch):
    (output / "checkpoints").mkdir()
    (output / "checkpoints" / "step-12").write_bytes(b"state")
    (output / "empty").mkdir()
    links = {
        "checkpoints/last.ckpt": "step-12", "checkpoints/absolute": str(output / "checkpoints" / "step-12"),
        "chain": "checkpoints/last.ckpt",
        "folder": "checkpoints", "loop": ".", "checkpoints/up": "..", "broken": "nothing", "outside": "/etc/passwd",
        "parent": "../..",
    }  # fmt: skip
    for name, target in links.items():
        (output / name).symlink_to(target)
    os.mkfifo(output / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(output)  # a socket's path is short
        server.bind("socket")
        rows = {row["path"]: (row["kind"], row["target"]) for row in ask("manifest", job="j")["rows"]}
    assert rows == {
        "checkpoints/step-12": ("file", ""), "empty": ("folder", ""), "checkpoints/last.ckpt": ("link", "checkpoints/step-12"),
        "checkpoints/absolute": ("link", "checkpoints/step-12"), "chain": ("link", "checkpoints/step-12"),
        "folder": ("link", "checkpoints"), "loop": ("loop", ""), "checkpoints/up": ("loop", ""), "broken": ("broken", ""),
        "outside": ("outside", ""), "parent": ("outside", ""), "pipe": ("pipe", ""), "socket": ("socket", ""),
    }  # fmt: skip


def test_the_agent_sends_whole_new_lines_of_reports(ask, output):
    assert ask("reports", job="j", offset=0)["text"] == ""
    (output / "reports.jsonl").write_bytes(b'{"a"}\n\xff\xfe\nhalf')
    first = ask("reports", job="j", offset=0)["text"]
    assert first.split("\n")[:-1] == ['{"a"}', "\xff\xfe"]
    assert ask("reports", job="j", offset=len(first))["text"] == ""
    (output / "reports.jsonl").write_bytes(b'{"a"}\n\xff\xfe\nhalf done\n')
    assert ask("reports", job="j", offset=len(first))["text"] == "half done\n"


@pytest.mark.parametrize(
    ("act", "request_", "words"),
    [
        ("status", {}, "job is missing"),
        ("status", {"job": "j", "more": 1}, "unknown field 'more'"),
        ("status", {"job": 5}, "job: not a text"),
        ("lease", {"seconds": float("nan"), "idle": 1}, "seconds: not a number"),
        ("checkout", {"digest": "../x", "entries": []}, "digest: no SHA-256"),
        ("nothing", {}, "KeyError"),
    ],
)
def test_a_question_of_another_form_is_refused(ask, act: str, request_: dict[str, Any], words: str):
    assert words in ask(act, **request_)["error"]


def test_a_place_continues_with_links(ask, output, tmp_path: Path):
    digest = hashlib.sha256(b"state").hexdigest()
    blob = {"digest": digest, "content": base64.b64encode(b"state").decode()}
    ask("keep", blobs=[blob])
    ask(
        "place",
        job="j",
        entries=[
            {"path": "checkpoints/step-12", "digest": digest},
            {"path": "checkpoints/last.ckpt", "link": "step-12"},
        ],
    )
    assert (output / "checkpoints/last.ckpt").read_bytes() == b"state"
    assert (output / "checkpoints/last.ckpt").is_symlink()

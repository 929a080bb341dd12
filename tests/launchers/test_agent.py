"""What a machine answers about a job's files, asked as a client asks: one JSON line each, to a process of its own."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import launchers.remote

AGENT = Path(launchers.remote.__file__).parent / "agent.py"


class Failed(Exception):
    """What the agent answers when it could not do what was asked."""


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

        def answer(act: str, *arguments: Any) -> Any:
            agent.stdin.write(json.dumps({"act": act, "arguments": arguments}) + "\n")
            agent.stdin.flush()
            said = json.loads(agent.stdout.readline())
            if "error" in said:
                raise Failed(said["error"])
            return said["answer"]

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
    for row in ask("manifest", "j"):
        content = base64.b64decode(ask("content", "j", row["path"], 0, row["size"], row["digest"]))
        if hashlib.sha256(content).hexdigest() == row["digest"]:
            files[row["path"]] = content
    return files


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
    (row,) = ask("manifest", "j")
    (output / "new").write_bytes(b"second")
    (output / "new").replace(output / "last.ckpt")
    assert base64.b64decode(ask("content", "j", "last.ckpt", 0, row["size"], row["digest"])) == b"first"


def run(tmp_path: Path, *words: str, given: bytes = b"") -> bytes:
    """The agent for one act of its own, such as sending a file; what it wrote after its mark."""
    command = [sys.executable, str(AGENT), str(tmp_path), "MARK", *words]
    done = subprocess.run(command, input=given, capture_output=True, timeout=60)
    return done.stdout.partition(b"MARK\n")[2]


def in_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_blob_that_was_damaged_on_the_way_is_not_kept(ask: Callable[..., Any]):
    digest = sha(b"as it was packed")
    with pytest.raises(Failed, match="damaged on the way"):
        ask("keep", [{"digest": digest, "content": in_base64(b"as it arrived")}])
    assert ask("missing", [digest]) == [digest]
    assert ask("keep", [{"digest": digest, "content": in_base64(b"as it was packed")}]) == {"received": 1}
    assert ask("missing", [digest]) == []


def test_blobs_sent_in_one_stream_are_each_verified(ask: Callable[..., Any], tmp_path: Path):
    contents = [b"", b"short", bytes(range(256)) * 5000]
    frames = b"".join(json.dumps({"digest": sha(c), "size": len(c)}).encode() + b"\n" + c for c in contents)
    run(tmp_path, "receive", given=frames)
    assert ask("missing", [sha(content) for content in contents]) == []
    cut = json.dumps({"digest": sha(b"whole"), "size": 5}).encode() + b"\nwho"
    run(tmp_path, "receive", given=cut)
    assert ask("missing", [sha(b"whole")]) == [sha(b"whole")]


def test_a_digest_is_never_a_path(ask: Callable[..., Any], tmp_path: Path):
    with pytest.raises(Failed, match="no SHA-256"):
        ask("keep", [{"digest": "../../x", "content": in_base64(b"x")}])


@pytest.mark.parametrize("offset", [0, 1, 1 << 20, (1 << 20) + 5, (2 << 20) + 16])
def test_a_file_of_several_chunks_is_sent_from_any_byte_on(ask, output: Path, tmp_path: Path, offset: int):
    content = bytes(range(256)) * 4096 * 2 + b"the last bytes.."
    (output / "model.bin").write_bytes(content)
    (row,) = ask("manifest", "j")
    assert (row["size"], row["digest"]) == (len(content), sha(content))
    sent = run(tmp_path, "send", "j", "model.bin", str(offset), str(row["size"]), row["digest"])
    assert sent == content[offset:]


def test_no_more_of_a_file_that_grows_is_sent_than_the_manifest_says(ask, output: Path, tmp_path: Path):
    content = b"x" * (1 << 20) + b"y" * 10
    (output / "log.txt").write_bytes(content)
    (row,) = ask("manifest", "j")
    with (output / "log.txt").open("ab") as file:
        file.write(b"z" * (1 << 20))
    assert run(tmp_path, "send", "j", "log.txt", "0", str(row["size"]), row["digest"]) == content


@pytest.mark.parametrize("state", ["ended", "lost"])
def test_the_log_of_a_job_that_is_over_is_followed_to_its_end(tmp_path: Path, output: Path, state: str):
    text = b"line\n" * 300_000
    (output.parent / "log").write_bytes(text)
    status = (
        {"state": "ended", "exit_code": 0} if state == "ended" else {"state": "running", "pid": 1 << 30, "birth": "1"}
    )
    (output.parent / "status.json").write_text(json.dumps(status))
    assert run(tmp_path, "follow", "j", "0") == text
    assert run(tmp_path, "follow", "j", str(len(text) - 3)) == text[-3:]


def test_the_log_of_a_running_job_is_followed_as_it_grows(tmp_path: Path, output: Path):
    (output.parent / "log").write_bytes(b"one\n")
    fields = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    status = {"state": "running", "pid": os.getpid(), "birth": fields[19]}
    (output.parent / "status.json").write_text(json.dumps(status))
    command = [sys.executable, str(AGENT), str(tmp_path), "MARK", "follow", "j", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as agent:
        assert agent.stdout
        assert [agent.stdout.readline() for _ in range(3)][-1] == b"one\n"
        with (output.parent / "log").open("ab") as file:
            file.write(b"two\n")
        assert agent.stdout.readline() == b"two\n"
        assert agent.poll() is None
        (output.parent / "status.json").write_text(json.dumps({"state": "ended", "exit_code": 0}))
        assert agent.stdout.read() == b""
        assert agent.wait(30) == 0


def test_a_working_tree_is_made_of_blobs_once_with_its_modes_and_links(ask, tmp_path: Path):
    ask("keep", [{"digest": sha(b"#!/bin/sh"), "content": in_base64(b"#!/bin/sh")}])
    entries = [
        {"path": "bin/run", "digest": sha(b"#!/bin/sh"), "executable": True},
        {"path": "plain", "digest": sha(b"#!/bin/sh"), "executable": False},
        {"path": "link", "link": "bin/run"},
    ]
    assert ask("checkout", "t" * 64, entries) == {"made": True}
    tree = tmp_path / "trees" / ("t" * 64)
    assert [oct((tree / name).stat().st_mode & 0o777) for name in ("bin/run", "plain")] == ["0o755", "0o644"]
    assert os.readlink(tree / "link") == "bin/run"
    (tree / "plain").write_text("changed by a job")
    assert ask("checkout", "t" * 64, entries) == {"made": False}
    assert (tree / "plain").read_text() == "changed by a job"
    with pytest.raises(Failed, match="unsafe path"):
        ask("checkout", "u" * 64, [{"path": "../outside", "digest": sha(b"#!/bin/sh")}])


def test_files_of_a_job_that_resumes_are_put_in_place_and_their_blobs_go(ask, tmp_path: Path, output: Path):
    ask("keep", [{"digest": sha(b"step 4"), "content": in_base64(b"step 4")}])
    (output / "last.ckpt").write_bytes(b"step 2")
    assert ask("place", "j", [{"path": "last.ckpt", "digest": sha(b"step 4")}]) == {"placed": 1}
    assert (output / "last.ckpt").read_bytes() == b"step 4"
    assert ask("missing", [sha(b"step 4")]) == [sha(b"step 4")]


def test_a_status_tells_disk_log_and_what_the_job_returned(ask, output: Path):
    assert ask("status", "j")["state"] == "absent"
    (output.parent / "log").write_bytes(b"12345")
    (output.parent / "return.json").write_text('{"value": 0.5}')
    (output.parent / "status.json").write_text('{"state": "ended", "exit_code": 3}')
    status = ask("status", "j")
    assert (status["state"], status["exit_code"], status["log_size"], status["value"]) == ("ended", 3, 5, 0.5)
    assert 0 < status["disk_free_gb"] < 1e7

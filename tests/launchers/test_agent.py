"""What a machine answers about a job's files, asked as a client asks: one JSON line each, to a process of its own."""

from __future__ import annotations

import base64
import hashlib
import json
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

        def answer(act: str, *arguments: Any) -> Any:
            agent.stdin.write(json.dumps({"act": act, "arguments": arguments}) + "\n")
            agent.stdin.flush()
            return json.loads(agent.stdout.readline())["answer"]

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

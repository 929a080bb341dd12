"""What packing a working tree costs, and the store of packed trees that several launches share."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from launchers import secret_scan, snapshot
from launchers.errors import SnapshotRefused
from launchers.snapshot import pack
from launchers.upload import progress, scanned
from launchers.upload.blob_store import Store

LIMIT = 50e6


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "main.py").write_text("print()\n")
    return folder


def packed(tree: Path) -> snapshot.Snapshot:
    return pack(tree, tree.parent / "home", LIMIT)[0]


def own(found: snapshot.Snapshot) -> dict[str, snapshot.Entry]:
    return {entry.path: entry for entry in found.entries if not entry.path.startswith(".launchers/")}


def blobs(tree: Path) -> list[str]:
    return sorted(
        str(path) for path in (tree.parent / "home" / "snapshots").rglob("*") if path.is_file() and path.name != ".lock"
    )


def test_too_large_a_tree_is_refused_before_anything_of_it_is_read(tree: Path, monkeypatch: pytest.MonkeyPatch):
    with (tree / "huge").open("wb") as file:
        file.truncate(10 << 40)  # takes no room
    with pytest.raises(SnapshotRefused, match=r"max_snapshot_mb 50 .largest: huge"):
        packed(tree)
    assert blobs(tree) == []


def test_a_refusal_leaves_nothing_in_the_store(tree: Path):
    (tree / "notes.txt").write_text("ghp_" + "0aB" * 12)
    with pytest.raises(SnapshotRefused, match="a GitHub token"):
        packed(tree)
    assert blobs(tree) == []


def test_copies_of_one_file_count_once(tree: Path):
    for name in ("a.bin", "b.bin"):
        with (tree / name).open("wb") as file:
            file.truncate(30_000_000)
    assert packed(tree).size < LIMIT


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are searched for secrets, by name."""
    names: list[str] = []

    def find_secret(path: str, *rest: object) -> str | None:
        names.append(path)
        return secret_scan.find_secret(path, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(snapshot, "find_secret", find_secret)
    monkeypatch.setattr(scanned, "SETTLED_NS", -1)
    return names


def test_an_unchanged_file_is_searched_once(tree: Path, searched: list[str]):
    first = packed(tree)
    assert "main.py" in searched
    searched.clear()
    assert packed(tree).digest == first.digest
    assert searched == []
    (tree / "main.py").write_text("print()!")
    assert packed(tree).digest != first.digest
    assert searched == ["main.py"]


def test_a_new_secret_searches_all_again(tree: Path, searched: list[str], monkeypatch: pytest.MonkeyPatch):
    (tree / "notes.txt").write_text("a-value-that-nobody-knows-yet")
    packed(tree)
    monkeypatch.setenv("SOME_TOKEN", "a-value-that-nobody-knows-yet")
    with pytest.raises(SnapshotRefused, match="the value of SOME_TOKEN"):
        packed(tree)


def test_a_file_that_was_just_written_is_not_trusted_to_stay(
    tree: Path, searched: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(scanned, "SETTLED_NS", 3600 * 10**9)
    packed(tree)
    searched.clear()
    packed(tree)
    assert "main.py" in searched


def test_without_the_memory_of_searches_all_is_searched(tree: Path, searched: list[str]):
    home = tree.parent / "home"
    home.mkdir()
    (home / "scanned.sqlite").write_bytes(b"nonsense" * 1000)
    packed(tree)
    searched.clear()
    packed(tree)
    assert "main.py" in searched


def test_two_processes_share_the_memory_of_searches(tmp_path: Path):
    trees = []
    for name in "ab":
        trees.append(tmp_path / name)
        trees[-1].mkdir()
        for number in range(100):
            (trees[-1] / f"{number}.txt").write_text(f"{number // 2}")
    program = (
        "import sys; from pathlib import Path; from launchers.snapshot import pack\n"
        f"for _ in range(5): pack(Path(sys.argv[1]), Path({str(tmp_path / 'home')!r}), 1e8)"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", program, tree], stderr=subprocess.PIPE, text=True) for tree in trees
    ]
    assert [(process.wait(60), process.stderr.read()) for process in running] == [(0, "")] * 2  # type: ignore[union-attr]


def test_packing_that_takes_long_says_so(tree: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "launchers")
    packed(tree)
    assert "packing the working tree" not in caplog.text
    monkeypatch.setattr(progress, "FIRST_S", 0.01)
    (tree / "slow.txt").write_text("x")
    said = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: said.set() if "now slow.txt" in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("launchers").addHandler(handler)
    monkeypatch.setattr(progress, "NEXT_S", 0.01)

    def find_secret(path: str, *rest: object) -> str | None:
        assert path != "slow.txt" or said.wait(30)
        return None

    monkeypatch.setattr(snapshot, "find_secret", find_secret)
    try:
        packed(tree)
    finally:
        logging.getLogger("launchers").removeHandler(handler)


# --- a store that several launches share


def store_of(tree: Path) -> Store:
    return Store(tree.parent / "home" / "snapshots")


def age(tree: Path) -> None:
    for path in (tree.parent / "home" / "snapshots").rglob("*"):
        os.utime(path, (1e9, 1e9))


def test_trees_that_no_launch_needs_are_put_away(tree: Path):
    first = packed(tree)
    (tree / "main.py").write_text("other")
    second = packed(tree)
    age(tree)
    store_of(tree).forget_all_but({second.digest})
    assert snapshot.load(second.digest, tree.parent / "home").digest == second.digest
    assert all(second.blob(entry.digest).exists() for entry in second.entries if entry.digest)
    assert not first.blob(own(first)["main.py"].digest).exists()


def test_a_tree_whose_launch_is_not_in_the_ledger_yet_stays(tree: Path):
    first = packed(tree)
    age(tree)
    assert packed(tree).digest == first.digest  # of another launch, from now on
    store_of(tree).forget_all_but(set())
    assert all(first.blob(entry.digest).exists() for entry in first.entries if entry.digest)


def test_a_launch_that_ends_takes_nothing_from_one_that_packs(tree: Path):
    packed(tree)
    age(tree)
    others = blobs(tree)
    with store_of(tree).packing() as packing:
        digest = packing.keep(b"new")
        store_of(tree).forget_all_but(set())
        assert set(others) <= set(blobs(tree))
        packing.manifest("0" * 64, json.dumps({"directory": ".", "entries": [{"path": "a", "digest": digest}]}))
    store_of(tree).forget_all_but(set())
    assert {Path(path).name for path in blobs(tree)} == {"0" * 64 + ".json", digest}


def test_what_a_killed_launch_was_packing_is_put_away(tree: Path):
    program = (
        "import os, sys; from pathlib import Path; from launchers.upload.blob_store import Store\n"
        "with Store(Path(sys.argv[1])).packing() as packing: packing.keep(b'half'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, tree.parent / "home" / "snapshots"], check=False)
    assert len(blobs(tree)) == 1
    store_of(tree).forget_all_but(set())
    assert blobs(tree) == []

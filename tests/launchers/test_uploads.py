"""What of a folder travels to a machine, kind by kind; what stays is named. The table is in docs/launching.md."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

import launchers.remote
from launchers import snapshot
from launchers.errors import SnapshotRefused
from launchers.providers.modal.provider import unpack
from launchers.snapshot import pack

LIMIT = 50e6


@pytest.fixture(params=["git", "no git"])
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "main.py").write_text("print()\n")
    if request.param == "git":
        subprocess.run(["git", "init", "--quiet", folder], check=True)
    return folder


def repository(folder: Path, *files: str, ignore: str = "") -> Path:
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    for name in files:
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text(ignore)
    return folder


def packed(tree: Path, **arguments: object) -> snapshot.Snapshot:
    return pack(tree, tree.parent / "home", LIMIT, **arguments)[0]  # type: ignore[arg-type]


def own(found: snapshot.Snapshot) -> dict[str, snapshot.Entry]:
    return {entry.path: entry for entry in found.entries if not entry.path.startswith(".launchers/")}


def on_a_machine(found: snapshot.Snapshot, root: Path) -> Path:
    """The tree as the agent of a machine makes it."""
    blobs = [
        {"digest": entry.digest, "content": base64.b64encode(found.blob(entry.digest).read_bytes()).decode()}
        for entry in found.entries
        if entry.digest
    ]
    request = {"digest": found.digest, "entries": [asdict(entry) for entry in found.entries], "blobs": blobs}
    question = json.dumps({"act": "checkout", "request": request}) + "\n"
    agent = Path(launchers.remote.__file__).parent / "agent.py"
    done = subprocess.run(
        [sys.executable, agent, root, "MARK", "serve"], input=question, capture_output=True, text=True, check=True
    )
    assert "error" not in done.stdout.splitlines()[-1], done.stdout
    return root / "trees" / found.digest


def at_modal(found: snapshot.Snapshot, root: Path) -> Path:
    unpack(found, root / "tree")
    return root / "tree"


@pytest.fixture(params=[on_a_machine, at_modal])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[snapshot.Snapshot], Path]:
    return lambda found: request.param(found, tmp_path / "machine")


def is_git(tree: Path) -> bool:
    return (tree / ".git").exists()


def test_files_travel_with_their_bytes_and_the_right_to_run_and_without_their_time(
    tree: Path, there: Callable[..., Path]
):
    (tree / "tool").write_text("#!/bin/sh\n")
    (tree / "tool").chmod(0o700)
    (tree / "main.py").chmod(0o600)
    os.utime(tree / "main.py", (1e9, 1e9))
    made = there(packed(tree))
    assert (made / "tool").stat().st_mode & 0o777 == 0o755
    assert (made / "main.py").stat().st_mode & 0o777 == 0o644
    assert (made / "main.py").read_text() == "print()\n"
    assert time.time() - (made / "main.py").stat().st_mtime < 600


@pytest.mark.parametrize("absolute", [False, True])
def test_links_inside_the_tree_travel_as_links(tree: Path, there: Callable[..., Path], absolute: bool):
    (tree / "step").mkdir()
    (tree / "step" / "a").write_text("a")
    (tree / "below").mkdir()
    for name, target in {"last": "step/a", "folder": "step", "below/up": "../step/a"}.items():
        real = (tree / name).parent / target
        (tree / name).symlink_to(os.path.abspath(real) if absolute else target)
    made = there(packed(tree))
    shutil.rmtree(tree)
    assert [(made / name).read_text() for name in ("last", "folder/a", "below/up")] == ["a", "a", "a"]
    assert all((made / name).is_symlink() for name in ("last", "folder", "below/up"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_that_leaves_the_tree_is_refused(tree: Path, tmp_path: Path, kind: str):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    (tree / "out").symlink_to(tmp_path / "elsewhere" / ("file" if kind == "file" else ""))
    with pytest.raises(SnapshotRefused, match="out is a link that leaves"):
        packed(tree)


def test_a_link_to_what_does_not_travel_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = repository(tmp_path / "tree", "a.py", ignore="private\n")
    (tree / "private").mkdir()
    (tree / "private" / "x").write_text("x")
    (tree / "data").symlink_to("private")
    packed(tree)
    assert "'private' (the link data leads to it)" in caplog.text


@pytest.mark.parametrize("rule", ["outputs/", "/outputs/", "out*/"])
@pytest.mark.parametrize("results", [True, False])
def test_results_may_be_a_link_to_another_disk(tmp_path: Path, rule: str, results: bool):
    """A rule for a folder fits no link, so that git lists it."""
    tree = repository(tmp_path / "tree", "a.py", ignore=f"{rule}\n")
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "old").write_text("x")
    (tree / "outputs").symlink_to(tmp_path / "disk")
    exclude = (tree / "outputs" / "2026" / "7",) if results else ()
    assert set(own(packed(tree, exclude=exclude))) == {"a.py", ".gitignore"}


def test_a_link_in_a_folder_below_is_held_against_the_rules_there(tmp_path: Path):
    tree = repository(tmp_path / "tree", "a.py")
    (tree / "below").mkdir()
    (tree / "below" / ".gitignore").write_text("data/\n")
    (tree / "below" / "data").symlink_to(tmp_path)
    assert "below/data" not in own(packed(tree))
    (tree / "below" / ".gitignore").write_text("other/\n")
    with pytest.raises(SnapshotRefused, match="below/data is a link that leaves"):
        packed(tree)


def test_a_repository_in_the_tree_travels_by_its_own_rules(tree: Path):
    repository(tree / "nested", "lib.py", "secret.csv", ignore="secret.csv\n")
    repository(tree / "nested" / "deeper", "deep.py")
    found = own(packed(tree))
    assert {"nested/lib.py", "nested/deeper/deep.py"} <= set(found)
    assert "nested/secret.csv" not in found
    assert not [path for path in found if ".git/" in path]


def test_a_repository_in_the_tree_that_git_refuses_stops_the_launch(tree: Path):
    nested = repository(tree / "nested", "lib.py")
    (nested / ".git" / "config").write_text("[core\n")
    with pytest.raises(SnapshotRefused, match="git can't say which files"):
        packed(tree)


@pytest.fixture
def with_submodule(tmp_path: Path) -> Path:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
    library = repository(tmp_path / "library", "lib.py")
    subprocess.run(["git", "-C", library, "add", "-A"], check=True)
    subprocess.run(["git", "-C", library, *identity, "commit", "-qm", "All"], check=True)
    tree = repository(tmp_path / "tree", "a.py")
    subprocess.run(["git", "-C", tree, *identity, "submodule", "--quiet", "add", library, "vendored"], check=True)
    return tree


def test_a_submodule_travels(with_submodule: Path):
    assert "vendored/lib.py" in own(packed(with_submodule))


def test_a_submodule_that_is_not_checked_out_is_named_with_the_command(
    with_submodule: Path, caplog: pytest.LogCaptureFixture
):
    subprocess.run(["git", "-C", with_submodule, "submodule", "--quiet", "deinit", "--force", "vendored"], check=True)
    packed(with_submodule)
    assert "git submodule update --init vendored" in caplog.text


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("door", ["tree", "data"])
def test_what_is_no_file_is_left_out_and_named(tmp_path: Path, kind: str, door: str, caplog: pytest.LogCaptureFixture):
    folder, project = tmp_path / "odd", tmp_path / "project"
    project.mkdir()
    folder.mkdir()
    (folder / "a").write_text("a")
    if kind == "pipe":
        os.mkfifo(folder / "odd")
    elif kind == "socket":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(os.path.relpath(folder / "odd"))
        listening.close()
    else:
        try:
            os.mknod(folder / "odd", 0o600 | 0o020000, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("only root makes devices")
    if door == "tree":
        assert set(own(packed(folder))) == {"a"}
    else:
        assert "odd" not in "".join(entry.path for entry in packed(project, data=(folder / "a",)).entries)
        packed(project, data=(folder,))
    assert "not uploaded: 'odd'" in caplog.text


def test_a_tracked_file_that_became_a_pipe_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tree = repository(tmp_path / "tree", "a.py", "b.py")
    subprocess.run(["git", "-C", tree, "add", "-A"], check=True)
    (tree / "b.py").unlink()
    os.mkfifo(tree / "b.py")
    assert "b.py" not in own(packed(tree))
    assert "it is a named pipe" in caplog.text


def test_empty_folders_travel_where_no_git_forgets_them(tree: Path, there: Callable[..., Path]):
    (tree / "empty").mkdir()
    made = there(packed(tree))
    assert (made / "empty").is_dir() is not is_git(tree)


def test_a_folder_that_was_named_travels_whole_but_for_its_history(tree: Path, tmp_path: Path):
    data = repository(tmp_path / "data", "rows.csv", "ignored.csv", ignore="ignored.csv\n")
    (data / "empty").mkdir()
    (data / "last.csv").symlink_to("rows.csv")
    found = packed(tree, data=(data,))
    names = {entry.path.partition("/data/")[2].partition("/data/")[2]: entry for entry in found.entries}
    assert {"rows.csv", "ignored.csv", "empty", "last.csv"} <= set(names)
    assert names["last.csv"].link == "rows.csv"
    assert not [name for name in names if name.startswith(".git/")]


def test_a_link_that_leaves_a_folder_that_was_named_is_refused(tree: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "other").write_text("x")
    (tmp_path / "data" / "out").symlink_to("../other")
    with pytest.raises(SnapshotRefused, match="out is a link that leaves"):
        packed(tree, data=(tmp_path / "data",))


def test_a_file_that_cannot_be_read_is_one_sentence(tree: Path, monkeypatch: pytest.MonkeyPatch):
    (tree / "locked").write_text("x")
    plain = Path.read_bytes

    def read_bytes(path: Path) -> bytes:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(SnapshotRefused, match=r"can't be packed: .*Permission denied.*locked"):
        packed(tree)

"""What leaves this machine: what git does not ignore and nobody keeps secret, and nothing at all where git can't tell."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from launchers.errors import SnapshotRefused
from launchers.snapshot import pack

TOKEN = "ghp_" + "0aB" * 12


def paths_of(project: Path, **arguments: object) -> set[str]:
    snapshot, _ = pack(project, project.parent / "home", 50e6, **arguments)  # type: ignore[arg-type]
    return {entry.path for entry in snapshot.entries}


@pytest.fixture
def private(project: Path) -> Path:
    """The project with a folder that git ignores."""
    (project / ".gitignore").write_text("private/\n")
    (project / "private").mkdir()
    (project / "private" / "patients.csv").write_text("name\n")
    return project


def test_what_git_ignores_stays_here(private: Path):
    assert "descent/__main__.py" in paths_of(private)
    assert "private/patients.csv" not in paths_of(private)


def foreign_owner(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")


def broken_repository(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".git" / "HEAD").write_text("nonsense\n")


def broken_config(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".git" / "config").write_text("[core\n")


def broken_index(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / ".git" / "index").write_bytes(b"nonsense")


def no_git(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(project / "nowhere"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (foreign_owner, "git config --global --add safe.directory"),
        (broken_repository, "git can't say which files"),
        (broken_config, "bad config line 1"),
        (broken_index, "git can't say which files"),
        (no_git, "git is not installed here"),
    ],
)
@pytest.mark.parametrize("where", [".", "descent"])
def test_where_git_fails_nothing_travels(private: Path, spoil, words: str, where: str, monkeypatch: pytest.MonkeyPatch):
    spoil(private, monkeypatch)
    with pytest.raises(SnapshotRefused, match=words) as caught:
        pack(private / where, private.parent / "home", 50e6)
    assert "\n" not in str(caught.value)
    assert list(private.parent.glob("home/snapshots/blobs/*")) == []


def test_a_folder_in_no_repository_travels_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "a.py").write_text("")
    assert "a.py" in paths_of(tmp_path / "project")
    no_git(tmp_path, monkeypatch)
    assert "a.py" in paths_of(tmp_path / "project")


@pytest.mark.parametrize("door", ["tree", "data", "carried", "configs"])
@pytest.mark.parametrize("name", [".env", "credentials", ".netrc", "prod.env", "vast_api_key"])
def test_a_file_that_is_named_like_credentials_leaves_by_no_door(project: Path, tmp_path: Path, door: str, name: str):
    folder = (project if door == "tree" else tmp_path) / "elsewhere"
    folder.mkdir()
    (folder / name).write_text("x")
    arguments = {
        "tree": {},
        "data": {"data": (folder,)},
        "carried": {"carried": {"a": folder}},
        "configs": {"configs": (folder,)},
    }
    with pytest.raises(SnapshotRefused, match="holds credentials, by its name"):
        paths_of(project, **arguments[door])
    if door == "data":  # a single file, too
        with pytest.raises(SnapshotRefused, match="holds credentials, by its name"):
            paths_of(project, data=(folder / name,))


@pytest.mark.parametrize("door", ["tree", "data", "carried", "configs"])
def test_a_value_that_this_process_holds_leaves_by_no_door(project: Path, tmp_path: Path, door: str, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-value-of-it")
    folder = (project if door == "tree" else tmp_path) / "elsewhere"
    folder.mkdir()
    (folder / "notes.txt").write_text("the-value-of-it")
    arguments = {
        "tree": {},
        "data": {"data": (folder,)},
        "carried": {"carried": {"a": folder}},
        "configs": {"configs": (folder,)},
    }
    with pytest.raises(SnapshotRefused, match="the value of AWS_SECRET_ACCESS_KEY"):
        paths_of(project, **arguments[door])


def test_shapes_of_keys_are_looked_for_in_the_tree_and_in_settings_and_not_in_a_corpus(project: Path, tmp_path: Path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "rows.txt").write_text(TOKEN)
    paths_of(project, data=(folder,))
    with pytest.raises(SnapshotRefused, match="a GitHub token"):
        paths_of(project, configs=(folder,))


def test_a_harmless_file_travels_once_it_is_marked(project: Path):
    (project / "example.json").write_text(TOKEN)
    with pytest.raises(SnapshotRefused, match="a GitHub token") as caught:
        paths_of(project)
    command = str(caught.value).split("`")[1]
    assert hashlib.sha256(TOKEN.encode()).hexdigest() in command
    subprocess.run(command, shell=True, cwd=project, check=True)
    assert "example.json" in paths_of(project)
    (project / "example.json").write_text(TOKEN + TOKEN)
    with pytest.raises(SnapshotRefused, match="a GitHub token"):
        paths_of(project)


def test_a_secret_that_was_committed_once_and_is_deleted_travels_in_no_diff(project: Path, tmp_path: Path):
    (project / ".env").write_text("PLAIN=nothing-that-a-shape-would-find\n")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", project, "add", "-A"], check=True)
    subprocess.run(["git", "-C", project, *identity, "commit", "-qm", "All"], check=True)
    (project / ".env").unlink()
    (project / "descent" / "__init__.py").write_text("# changed\n")
    pack(project, tmp_path / "home", 50e6)
    blobs = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"nothing-that-a-shape-would-find" not in blobs
    assert b"+# changed" in blobs
    # Nor in the diff that an earlier job left in its folder.
    earlier = tmp_path / "outputs" / "0"
    earlier.mkdir(parents=True)
    diff = subprocess.check_output(["git", "-C", project, "diff", "HEAD"])
    (earlier / "changes.diff").write_bytes(diff)
    assert b"nothing-that-a-shape-would-find" in diff
    pack(project, tmp_path / "second", 50e6, data=(earlier,))
    blobs = b"".join(path.read_bytes() for path in (tmp_path / "second").rglob("*") if path.is_file())
    assert b"nothing-that-a-shape-would-find" not in blobs


def test_an_ignore_file_that_cannot_be_read_is_no_reason_to_ignore_nothing(private: Path):
    (private / ".gitignore").rename(private / "kept")
    (private / ".gitignore").symlink_to("kept")  # git follows no link to an ignore file, and only warns
    with pytest.raises(SnapshotRefused, match="git can't say which files"):
        pack(private, private.parent / "home", 50e6)

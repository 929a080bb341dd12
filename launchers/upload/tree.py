"""What of a folder would travel: its files, links and empty folders, as git sees them where there is a repository.

Nothing is read here but names. What stays behind is collected with its reason, to be told.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from launchers.errors import SnapshotRefused

log = logging.getLogger("launchers")
_JUNK = (".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "node_modules")
_SPECIAL = ((stat.S_ISFIFO, "it is a named pipe"), (stat.S_ISSOCK, "it is a socket"))


@dataclass(frozen=True)
class Item:
    """A regular file, unless it has a `link` target or is an empty folder."""

    path: Path
    relative: str
    """To the top of the folder that was looked through."""
    info: os.stat_result
    link: str | None = None
    folder: bool = False


@dataclass(frozen=True)
class LeftOut:
    """Something that does not travel although nothing ignores it."""

    relative: str
    why: str


def top_of(directory: Path) -> tuple[Path, bool]:
    """The top of the working tree, and whether it is a git repository.

    Raises:
        SnapshotRefused: it is one, and git can't be asked: what it ignores would travel.
    """
    inside = any((folder / ".git").exists() for folder in (directory.resolve(), *directory.resolve().parents))
    try:
        done = run_git(directory, "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        if inside:
            raise _no_git() from None
    else:
        if done.returncode == 0:
            return Path(os.fsdecode(done.stdout).strip()).resolve(), True
        if inside or b"not a git repository" not in done.stderr:
            raise _git_failed(directory, done.stderr)
    log.info("%s is in no git repository: every file in it travels, caches left out", directory)
    return directory.resolve(), False


def tree_items(top: Path, is_repository: bool, exclude: Sequence[Path], left: list[LeftOut]) -> Iterator[Item]:
    """What git would commit if everything were added, in the repositories inside it too; without git, everything but caches.

    Args:
        exclude: folders that never travel, nor links on the way to them.
        left: takes what is left out.

    Raises:
        SnapshotRefused: a link leads out of the tree, or git can't be asked.
    """
    banned = [(Path(os.path.abspath(path)), path.resolve()) for path in exclude]
    found = _repository_names(top, PurePosixPath(), left) if is_repository else _walked_names(top, left)
    for relative in found:
        path = top / relative
        if any(real.is_relative_to(folder) for _, folder in banned for real in (path, path.resolve())):
            continue
        if path.is_symlink() and any(named.is_relative_to(path) for named, _ in banned):
            continue  # `outputs -> /big/disk`: the results lie there
        yield from _items(path, relative.as_posix(), top, is_repository, left)


def folder_items(folder: Path, left: list[LeftOut]) -> Iterator[Item]:
    """Everything in a folder but `.git`, which holds what was deleted long ago; or one file.

    Raises:
        SnapshotRefused: a link leads out of it.
    """
    if not folder.is_dir():
        yield Item(folder, "", folder.stat())
        return
    for directory, names, files in os.walk(folder):
        names[:] = sorted(name for name in names if name != ".git")
        links = [name for name in names if Path(directory, name).is_symlink()]
        for name in sorted([*files, *links]):
            path = Path(directory, name)
            yield from _items(path, path.relative_to(folder).as_posix(), folder, False, left)
        if not names and not files and Path(directory) != folder:
            yield _empty(Path(directory), folder)


def _items(path: Path, relative: str, top: Path, is_repository: bool, left: list[LeftOut]) -> Iterator[Item]:
    """The item of one path, or none."""
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        target = _inner_target(path, top)
        if target is not None:
            yield Item(path, relative, info, link=target)
        elif is_repository and _is_ignored_as_folder(path):
            left.append(LeftOut(relative, "git ignores a folder of that name, and this is a link to one elsewhere"))
        else:
            raise SnapshotRefused(
                f"{relative} is a link that leaves {'the working tree' if is_repository else top}: remove it, or "
                f"{'add it to .gitignore' if is_repository else 'put what it leads to in its place'}."
            )
    elif stat.S_ISREG(info.st_mode):
        yield Item(path, relative, info)
    elif stat.S_ISDIR(info.st_mode):
        yield Item(path, relative, info, folder=True)
    else:
        why = next((why for is_one, why in _SPECIAL if is_one(info.st_mode)), "it is a device")
        left.append(LeftOut(relative, why))


def _empty(path: Path, top: Path) -> Item:
    return Item(path, path.relative_to(top).as_posix(), path.lstat(), folder=True)


def _inner_target(path: Path, top: Path) -> str | None:
    """Where a link leads, relative to it; None when that is outside."""
    target, inside = os.readlink(path), top.resolve()
    real = (path.parent / target).resolve()
    if not real.is_relative_to(inside):
        return None
    return os.path.relpath(real, path.parent.resolve()) if os.path.isabs(target) else target


# --- names


def _repository_names(top: Path, at: PurePosixPath, left: list[LeftOut]) -> Iterator[PurePosixPath]:
    """What git lists in the repository at `top / at`, relative to `top`; repositories in it by their own rules."""
    repository = top / at
    try:
        listed = run_git(repository, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    except FileNotFoundError:
        raise _no_git() from None
    # An ignore file that git can't read is only a warning of it.
    if listed.returncode or b"unable to access" in listed.stderr:
        raise _git_failed(repository, listed.stderr)
    for name in sorted({os.fsdecode(name).rstrip("/") for name in listed.stdout.split(b"\0") if name}):
        path, relative = repository / name, at / name
        if path.is_dir() and not path.is_symlink():
            if (path / ".git").exists():
                yield from _repository_names(top, relative, left)
            elif not any(path.iterdir()):
                command = f"git submodule update --init {shlex.quote(relative.as_posix())}"
                left.append(LeftOut(relative.as_posix(), f"it is a submodule that is not here: run `{command}`"))
        elif path.is_symlink() or path.exists():  # deleted files are still listed
            yield relative


def _walked_names(top: Path, left: list[LeftOut]) -> Iterator[PurePosixPath]:
    for directory, names, files in os.walk(top):
        here = PurePosixPath(Path(directory).relative_to(top).as_posix())
        repositories = sorted(name for name in names if (Path(directory, name) / ".git").exists())
        links = [name for name in names if Path(directory, name).is_symlink()]
        names[:] = sorted(name for name in names if name not in _JUNK and name not in repositories)
        yield from (here / name for name in sorted([*files, *links]))
        for name in repositories:
            if name not in links:
                yield from _repository_names(top, here / name, left)
        if not names and not files and not repositories and Path(directory) != top:
            yield here


# --- git


def _is_ignored_as_folder(link: Path) -> bool:
    """Whether git would ignore a folder in the place of a link: `outputs/` in an ignore file names no link.

    git follows no link to find out, so that it is asked about an empty tree with the same ignore files.
    """
    said = run_git(link.parent, "rev-parse", "--show-toplevel", "--absolute-git-dir").stdout
    top, _, git_dir = os.fsdecode(said).strip().partition("\n")
    relative = PurePosixPath(link.parent.resolve().relative_to(top).as_posix()) / link.name
    with tempfile.TemporaryDirectory() as empty:
        (Path(empty) / relative).mkdir(parents=True)
        for parent in relative.parents:
            if (Path(top) / parent / ".gitignore").is_file():
                shutil.copyfile(Path(top) / parent / ".gitignore", Path(empty) / parent / ".gitignore")
        places = (f"--git-dir={git_dir}", f"--work-tree={empty}")
        asked = run_git(Path(empty), *places, "check-ignore", "--quiet", "--no-index", relative.as_posix())
    return asked.returncode == 0


def _no_git() -> SnapshotRefused:
    return SnapshotRefused("git is not installed here, so that the files that it ignores would travel: install git.")


def _git_failed(top: Path, said: bytes) -> SnapshotRefused:
    """What git can't do, and the way out."""
    reason = " ".join(said.decode(errors="replace").split()).removeprefix("fatal: ").rstrip(".")
    remedy = "mend that first"
    if "dubious ownership" in reason:
        reason = reason.split(" To add an exception")[0]
        remedy = f"if you trust this folder, run `git config --global --add safe.directory {shlex.quote(str(top))}`"
    return SnapshotRefused(
        f"git can't say which files of {top} it ignores ({reason}), so that they would travel, too: {remedy}."
    )


def run_git(top: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """In the words of the C locale, in which we look for some."""
    return subprocess.run(
        ["git", "-C", str(top), *arguments], capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )

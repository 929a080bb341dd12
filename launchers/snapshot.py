"""The working tree as a content-addressed, secret-scanned archive: what git sees, plus the data that exists only here.

A snapshot is a list of paths with digests; its bytes lie once, by digest, in the user's data folder, so that a job can be
moved to another machine after the working tree has changed, and a second job uploads only what is new.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import json
import logging
import os
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from launchers.errors import MendInput, SnapshotRefused
from launchers.remote.checked import is_digest
from launchers.secret_scan import ALLOW_FILE, allowed_digests, find_secret, harmless_diff

log = logging.getLogger("launchers")
SUPPORT = ".launchers"
"""Folder of the shipped tree that holds this package itself, and the data of other places."""
SOURCE = f"{SUPPORT}/source"
"""Holds `commit` and `changes.diff`: the tree travels without its history, and a result must still say what made it."""
DIFF = "changes.diff"
CARRIED = f"{SUPPORT}/carried"
"""Holds what the app asked to carry, under the names that it gave."""
_JUNK = (".git", ".venv", "venv", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "node_modules")


@dataclass(frozen=True)
class Entry:
    """One file; `digest` is SHA-256 in hexadecimal. A link has a target and no digest."""

    path: str
    digest: str = ""
    size: int = 0
    executable: bool = False
    link: str | None = None


@dataclass(frozen=True)
class Snapshot:
    digest: str
    entries: tuple[Entry, ...]
    directory: str
    """Where in the tree the job starts, relative to its top."""
    store: Path
    """Folder of the bytes, by digest."""

    @property
    def size(self) -> int:
        """Bytes, each file once."""
        return sum({entry.digest: entry.size for entry in self.entries}.values())

    def blob(self, digest: str) -> Path:
        assert is_digest(digest), f"{digest!r} is no SHA-256"
        return self.store / "blobs" / digest


def pack(
    directory: Path,
    home: Path,
    max_bytes: float,
    exclude: tuple[Path, ...] = (),
    data: tuple[Path, ...] = (),
    carried: Mapping[str, Path] | None = None,
    configs: tuple[Path, ...] = (),
) -> tuple[Snapshot, dict[Path, str]]:
    """Pack the working tree around `directory`.

    Args:
        exclude: folders that never travel, such as the results of this launch.
        data: files or folders of this machine that must travel although git does not see them.
        carried: more of them, by their path below `CARRIED`.
        configs: likewise folders of settings, which are searched for the shapes of keys as the tree is.

    Returns:
        The snapshot, and for each of `data` and `configs` its path on the machine, relative to where the job starts.

    Raises:
        SnapshotRefused: a secret would travel, or more than `max_bytes`; or git can't tell what it ignores.
    """
    top, is_repository = _top(directory)
    store = home / "snapshots"
    (store / "blobs").mkdir(parents=True, exist_ok=True, mode=0o700)
    banned = [path.resolve() for path in exclude]
    allow_file = top / ALLOW_FILE
    allowed = allowed_digests(allow_file.read_text(errors="replace")) if allow_file.is_file() else frozenset()
    entries = []
    for relative in _tree_files(top, is_repository):
        path = top / relative
        if any(path.resolve().is_relative_to(folder) for folder in banned):
            continue
        entries.append(_entry(path, relative.as_posix(), top, store, Scan(True, allowed)))
    known = {entry.path for entry in entries}
    start = directory.resolve().relative_to(top)
    places: dict[Path, str] = {}
    for path in (*data, *configs):
        place, extra = _data_entries(path, top, store, known, Scan(path in configs, allowed))
        entries += extra
        places[path] = os.path.relpath(place, start.as_posix())
    for name, path in (carried or {}).items():
        entries += _entries_below(path, f"{CARRIED}/{name}", store, Scan(False, allowed))
    entries += [e for e in _support_entries(store) if e.path not in known]
    entries += _source_entries(top, store)
    unique = tuple(sorted({entry.path: entry for entry in entries}.values(), key=lambda e: e.path))
    snapshot = Snapshot(_digest_of_tree(unique), unique, start.as_posix(), store)
    if snapshot.size > max_bytes:
        largest = max(unique, key=lambda e: e.size)
        raise SnapshotRefused(
            f"The working tree would ship {snapshot.size / 1e6:.0f} MB, more than provider.max_snapshot_mb "
            f"{max_bytes / 1e6:.0f} (largest: {largest.path}, {largest.size / 1e6:.0f} MB): "
            "add large files to .gitignore, or raise the limit."
        )
    text = json.dumps({"directory": snapshot.directory, "entries": [asdict(e) for e in unique]})
    (store / f"{snapshot.digest}.json").write_text(text)
    return snapshot, places


def load(digest: str, home: Path) -> Snapshot:
    """A snapshot packed before."""
    path = home / "snapshots" / f"{digest}.json"
    if not path.exists():
        raise MendInput(f"The packed working tree {digest[:12]} is no longer in {path.parent}: start the job anew.")
    content = json.loads(path.read_text())
    return Snapshot(digest, tuple(Entry(**e) for e in content["entries"]), content["directory"], home / "snapshots")


def _top(directory: Path) -> tuple[Path, bool]:
    """The top of the working tree, and whether it is a git repository.

    Raises:
        SnapshotRefused: it is one, and git can't be asked: what it ignores would travel.
    """
    inside = any((folder / ".git").exists() for folder in (directory.resolve(), *directory.resolve().parents))
    try:
        done = _run_git(directory, "rev-parse", "--show-toplevel")
    except FileNotFoundError:
        if inside:
            raise SnapshotRefused(
                "git is not installed here, so that the files that it ignores would travel: install git."
            ) from None
    else:
        if done.returncode == 0:
            return Path(os.fsdecode(done.stdout).strip()).resolve(), True
        if inside or b"not a git repository" not in done.stderr:
            raise _git_failed(directory, done.stderr)
    log.info("%s is in no git repository: every file in it travels, caches left out", directory)
    return directory.resolve(), False


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


def _tree_files(top: Path, is_repository: bool) -> Iterator[PurePosixPath]:
    """What git would commit if everything were added; without git, every file but caches."""
    if is_repository:
        listed = _run_git(top, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
        # An ignore file that git can't read is only a warning of it.
        if listed.returncode or b"unable to access" in listed.stderr:
            raise _git_failed(top, listed.stderr)
        names = sorted({os.fsdecode(name) for name in listed.stdout.split(b"\0") if name})
        # Deleted files are still listed, and a submodule is a folder.
        yield from (PurePosixPath(name) for name in names if (top / name).is_symlink() or (top / name).is_file())
        return
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if name not in _JUNK)
        yield from (PurePosixPath(Path(folder, name).relative_to(top).as_posix()) for name in sorted(files))


@dataclass(frozen=True)
class Scan:
    """How files are searched for secrets; see `find_secret`."""

    shapes: bool
    """False for data."""
    allowed: frozenset[str] = frozenset()


def _entry(path: Path, relative: str, top: Path, store: Path, scan: Scan) -> Entry:
    if path.is_symlink():
        target = os.readlink(path)
        if os.path.isabs(target) or not (path.parent / target).resolve().is_relative_to(top):
            raise SnapshotRefused(
                f"{relative} is a link that leaves the working tree: remove it, or add it to .gitignore."
            )
        return Entry(relative, link=target)
    content = path.read_bytes()
    if not scan.shapes and path.name == DIFF:
        content = harmless_diff(content)  # of an earlier job
    is_foreign = relative.startswith(f"{SUPPORT}/")
    called = path.as_posix() if is_foreign else relative
    found = find_secret(called, content, scan.shapes, scan.allowed)
    if found:
        remedy = "leave it out" if is_foreign else "add it to .gitignore"
        if not found.startswith("the value of"):
            allow = f"{hashlib.sha256(content).hexdigest()}  {PurePosixPath(called).name}"
            remedy += f", or if it is harmless, run `echo {shlex.quote(allow)} >> {ALLOW_FILE}`"
        raise SnapshotRefused(f"{called} holds {found} and would travel to a rented machine: {remedy}.")
    return _written(content, relative, store, bool(path.stat().st_mode & 0o100))


def _keep(content: bytes, blob: Path) -> None:
    if not blob.exists():
        partial = blob.with_name(f".{blob.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(blob)


def _data_entries(path: Path, top: Path, store: Path, known: set[str], scan: Scan) -> tuple[str, list[Entry]]:
    """Where a file or folder will lie in the tree, and what must be added for it."""
    real = path.resolve()
    if real.is_relative_to(top):
        inside = real.relative_to(top).as_posix()
        place, files = inside, _files_below(real)
        missing = [f for f in files if f.relative_to(top).as_posix() not in known]
        return place, [_entry(f, f.relative_to(top).as_posix(), top, store, scan) for f in missing]
    place = f"{SUPPORT}/data/{hashlib.sha256(str(real).encode()).hexdigest()[:8]}/{real.name}"
    return place, _entries_below(real, place, store, scan)


def _entries_below(path: Path, place: str, store: Path, scan: Scan) -> list[Entry]:
    """A file or folder of anywhere, at a place in the tree."""
    return [
        _entry(file, (PurePosixPath(place) / file.relative_to(path).as_posix()).as_posix(), path.parent, store, scan)
        for file in _files_below(path)
    ]


def size_below(path: Path) -> int:
    """Bytes of a file or folder."""
    return sum(file.stat().st_size for file in _files_below(path))


def _files_below(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())


def _support_entries(store: Path) -> list[Entry]:
    """What Hydra loads of this package at the start of a job, whatever the job's own dependencies are.

    That is the modules at its top, those of sweeps, and the plugins. The other folders (commands, providers, transport) are
    this side's.
    """
    plugins = Path(importlib.import_module("hydra_plugins.launchers_plugin").__path__[0])
    package = Path(__file__).parent
    return [
        _entry(path, f"{SUPPORT}/{name}/{path.name}", source, store, Scan(False))
        for source, name in (
            (package, "launchers"),
            (package / "search", "launchers/search"),
            (plugins, "hydra_plugins/launchers_plugin"),
        )
        for path in sorted(source.glob("*.py"))
    ]


def _source_entries(top: Path, store: Path) -> list[Entry]:
    """The commit and the uncommitted changes as text, without files that hold a secret, in a removed line perhaps."""
    commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return []
    diff = _git(top, "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "diff", "--no-ext-diff", "HEAD")
    kept = {"commit": commit.strip(), DIFF: harmless_diff(diff)}
    return [_written(content, f"{SOURCE}/{name}", store) for name, content in kept.items()]


def _git(top: Path, *arguments: str) -> bytes:
    try:
        done = _run_git(top, *arguments)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def _run_git(top: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """In the words of the C locale, in which we look for some."""
    return subprocess.run(
        ["git", "-C", str(top), *arguments], capture_output=True, check=False, env=os.environ | {"LC_ALL": "C"}
    )


def _written(content: bytes, relative: str, store: Path, executable: bool = False) -> Entry:
    digest = hashlib.sha256(content).hexdigest()
    _keep(content, store / "blobs" / digest)
    return Entry(relative, digest, len(content), executable)


def _digest_of_tree(entries: tuple[Entry, ...]) -> str:
    text = json.dumps([asdict(entry) for entry in entries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def matches(path: str, patterns: list[str]) -> bool:
    """Whether a path fits one of the patterns; `*` crosses folders."""
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


def forget_all_but(digests: set[str], home: Path) -> None:
    """Remove the other packed trees."""
    store = home / "snapshots"
    kept: set[str] = set()
    for manifest in store.glob("*.json"):
        if manifest.stem in digests:
            kept |= {entry["digest"] for entry in json.loads(manifest.read_text())["entries"]}
        else:
            manifest.unlink()
    for blob in (store / "blobs").iterdir():
        if blob.name not in kept:
            blob.unlink()

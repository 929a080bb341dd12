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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from launchers.errors import MendInput, SnapshotRefused
from launchers.remote.checked import is_digest
from launchers.secret_scan import ALLOW_FILE, allowed_digests, find_secret, harmless_diff
from launchers.text import shown
from launchers.upload.blob_store import Packing, Store
from launchers.upload.progress import Progress
from launchers.upload.scanned import Scanned
from launchers.upload.tree import Item, LeftOut, folder_items, run_git, top_of, tree_items

log = logging.getLogger("launchers")
SUPPORT = ".launchers"
"""Folder of the shipped tree that holds this package itself, and the data of other places."""
SOURCE = f"{SUPPORT}/source"
"""Holds `commit` and `changes.diff`: the tree travels without its history, and a result must still say what made it."""
DIFF = "changes.diff"
CARRIED = f"{SUPPORT}/carried"
"""Holds what the app asked to carry, under the names that it gave."""
NAMED = 5
"""How many of the things that stay behind are named."""


@dataclass(frozen=True)
class Entry:
    """One file; `digest` is SHA-256 in hexadecimal. A link has a target and no digest, and so has an empty folder."""

    path: str
    digest: str = ""
    size: int = 0
    executable: bool = False
    link: str | None = None
    folder: bool = False


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
    top, is_repository = top_of(directory)
    allow_file = top / ALLOW_FILE
    allowed = allowed_digests(allow_file.read_text(errors="replace")) if allow_file.is_file() else frozenset()
    left: list[LeftOut] = []
    start = directory.resolve().relative_to(top)
    places: dict[Path, str] = {}
    store = Store(home / "snapshots")
    try:
        wanted = [_Wanted(item, item.relative, True, allowed) for item in tree_items(top, is_repository, exclude, left)]
        known = {one.place for one in wanted}
        for path in (*data, *configs):
            place, extra = _data_items(path, top, known, path in configs, allowed, left)
            wanted += extra
            places[path] = os.path.relpath(place, start.as_posix())
        for name, path in (carried or {}).items():
            wanted += _placed(path, f"{CARRIED}/{name}", False, allowed, left)
        wanted += [one for one in _support_items() if one.place not in known]
        wanted = list({one.place: one for one in wanted}.values())
        _check_size(wanted, max_bytes)
        with (
            store.packing() as packing,
            Scanned(home / "scanned.sqlite") as scanned,
            Progress(log, "packing the working tree") as progress,
        ):
            entries = [_entry(one, packing, scanned, progress) for one in wanted]
            entries += _source_entries(top, packing)
            unique = tuple(sorted({entry.path: entry for entry in entries}.values(), key=lambda e: e.path))
            snapshot = Snapshot(_digest_of_tree(unique), unique, start.as_posix(), store.folder)
            if snapshot.size > max_bytes:
                raise _too_large(snapshot.size, max_bytes, max((entry.size, entry.path) for entry in unique))
            text = json.dumps({"directory": snapshot.directory, "entries": [asdict(e) for e in unique]})
            packing.manifest(snapshot.digest, text)
    except OSError as error:
        raise SnapshotRefused(f"The working tree can't be packed: {error}.") from None
    _say_left_out(left, unique)
    return snapshot, places


def load(digest: str, home: Path) -> Snapshot:
    """A snapshot packed before."""
    path = home / "snapshots" / f"{digest}.json"
    if not path.exists():
        raise MendInput(f"The packed working tree {digest[:12]} is no longer in {path.parent}: start the job anew.")
    content = json.loads(path.read_text())
    return Snapshot(digest, tuple(Entry(**e) for e in content["entries"]), content["directory"], home / "snapshots")


@dataclass(frozen=True)
class _Wanted:
    """Something that is to travel, and how it is searched for secrets; see `find_secret`."""

    item: Item
    place: str
    shapes: bool
    """False for data."""
    allowed: frozenset[str] = frozenset()

    @property
    def called(self) -> str:
        """As messages name it."""
        return self.item.path.as_posix() if self.place.startswith(f"{SUPPORT}/") else self.place

    @property
    def how(self) -> str:
        """What of it decides whether the same bytes are harmless."""
        text = " ".join([str(self.shapes), self.called, *sorted(self.allowed)])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


def _check_size(wanted: Sequence[_Wanted], max_bytes: float) -> None:
    """Refuse what is surely too large before anything is read. Files of one size may be one file."""
    sizes = {one.item.info.st_size: one.called for one in wanted if one.item.link is None and not one.item.folder}
    if sum(sizes) > max_bytes:
        raise _too_large(sum(sizes), max_bytes, max(sizes.items()))


def _too_large(size: int, max_bytes: float, largest: tuple[int, str]) -> SnapshotRefused:
    return SnapshotRefused(
        f"The working tree would ship {size / 1e6:.0f} MB, more than provider.max_snapshot_mb {max_bytes / 1e6:.0f} "
        f"(largest: {largest[1]}, {largest[0] / 1e6:.0f} MB): add large files to .gitignore, or raise the limit."
    )


def _say_left_out(left: Sequence[LeftOut], entries: Sequence[Entry]) -> None:
    """Name what does not travel although nothing ignores it."""
    paths = {entry.path for entry in entries}
    paths |= {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}
    rows = [
        *left,
        *(
            LeftOut(entry.link, f"the link {entry.path} leads to it")
            for entry in entries
            if entry.link is not None and os.path.normpath(PurePosixPath(entry.path).parent / entry.link) not in paths
        ),
    ]
    for row in rows[:NAMED]:
        log.warning("not uploaded: '%s' (%s)", shown(row.relative, lines=False), shown(row.why, lines=False))
    if len(rows) > NAMED:
        log.warning("not uploaded: %d more", len(rows) - NAMED)


def _entry(one: _Wanted, packing: Packing, scanned: Scanned, progress: Progress) -> Entry:
    """What is kept of an item, once it is known to hold no secret.

    Raises:
        SnapshotRefused: it holds one.
    """
    item = one.item
    if item.link is not None or item.folder:
        return Entry(one.place, link=item.link, folder=item.folder)
    progress.note(one.called, item.info.st_size)
    executable = bool(item.info.st_mode & 0o100)
    key, how, info = str(item.path.absolute()), one.how, item.path.lstat()
    clean = scanned.digest(key, how, info)
    if clean is not None and packing.holds(clean):
        return Entry(one.place, clean, info.st_size, executable)
    content = item.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not one.shapes and item.path.name == DIFF:
        content = harmless_diff(content)  # of an earlier job
        _refuse_secret(one, content)
    elif digest != clean:
        _refuse_secret(one, content)
        if len(content) == info.st_size:
            scanned.remember(key, how, info, digest)
    return Entry(one.place, packing.keep(content), len(content), executable)


def _refuse_secret(one: _Wanted, content: bytes) -> None:
    found = find_secret(one.called, content, one.shapes, one.allowed)
    if not found:
        return
    remedy = "leave it out" if one.place.startswith(f"{SUPPORT}/") else "add it to .gitignore"
    if not found.startswith("the value of"):
        allow = f"{hashlib.sha256(content).hexdigest()}  {PurePosixPath(one.called).name}"
        remedy += f", or if it is harmless, run `echo {shlex.quote(allow)} >> {ALLOW_FILE}`"
    raise SnapshotRefused(f"{one.called} holds {found} and would travel to a rented machine: {remedy}.")


def _data_items(
    path: Path, top: Path, known: set[str], shapes: bool, allowed: frozenset[str], left: list[LeftOut]
) -> tuple[str, list[_Wanted]]:
    """Where a file or folder will lie in the tree, and what must be added for it."""
    real = path.resolve()
    if real.is_relative_to(top):
        place = real.relative_to(top).as_posix()
    else:
        place = f"{SUPPORT}/data/{hashlib.sha256(str(real).encode()).hexdigest()[:8]}/{real.name}"
    return place, [one for one in _placed(real, place, shapes, allowed, left) if one.place not in known]


def _placed(path: Path, place: str, shapes: bool, allowed: frozenset[str], left: list[LeftOut]) -> list[_Wanted]:
    """A file or folder of anywhere, at a place in the tree."""
    return [
        _Wanted(item, (PurePosixPath(place) / item.relative).as_posix(), shapes, allowed)
        for item in folder_items(path, left)
    ]


def size_below(path: Path) -> int:
    """Bytes of a file or folder."""
    return sum(item.info.st_size for item in folder_items(path, []) if item.link is None and not item.folder)


def _support_items() -> list[_Wanted]:
    """What Hydra loads of this package at the start of a job, whatever the job's own dependencies are.

    That is the modules at its top, those of sweeps, and the plugins. The other folders (commands, providers, transport) are
    this side's.
    """
    plugins = Path(importlib.import_module("hydra_plugins.launchers_plugin").__path__[0])
    package = Path(__file__).parent
    return [
        _Wanted(Item(path, path.name, path.stat()), f"{SUPPORT}/{name}/{path.name}", False)
        for source, name in (
            (package, "launchers"),
            (package / "search", "launchers/search"),
            (plugins, "hydra_plugins/launchers_plugin"),
        )
        for path in sorted(source.glob("*.py"))
    ]


def _source_entries(top: Path, packing: Packing) -> list[Entry]:
    """The commit and the uncommitted changes as text, without files that hold a secret, in a removed line perhaps."""
    commit = _git(top, "rev-parse", "--verify", "--quiet", "HEAD")
    if not commit:
        return []
    diff = _git(top, "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "diff", "--no-ext-diff", "HEAD")
    kept = {"commit": commit.strip(), DIFF: harmless_diff(diff)}
    return [Entry(f"{SOURCE}/{name}", packing.keep(content), len(content)) for name, content in kept.items()]


def _git(top: Path, *arguments: str) -> bytes:
    try:
        done = run_git(top, *arguments)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def _digest_of_tree(entries: tuple[Entry, ...]) -> str:
    text = json.dumps([asdict(entry) for entry in entries], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def matches(path: str, patterns: list[str]) -> bool:
    """Whether a path fits one of the patterns; `*` crosses folders."""
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)

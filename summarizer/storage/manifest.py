"""The manifest of a stored job: which objects are its files. Written last and whole, so that a reader never meets half a job."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from summarizer.errors import CheckpointError

MANIFEST, OWNER = "manifest.json", "owner.json"
VERSION = 1
STEP = re.compile(r"checkpoints/step-0*(\d+)\.ckpt")


@dataclass(frozen=True)
class Entry:
    """One file: the object that holds it, its bytes and their SHA-256."""

    object: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of a job at one moment.

    Attributes:
        state: of the job's status.json.
        written: seconds since the epoch.
        writer: the process that wrote it.
        files: relative path -> entry.
    """

    state: str
    written: float
    writer: str
    files: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Of the newest checkpoint; -1 without one."""
        return newest_step(self.files)

    def dump(self) -> bytes:
        return (json.dumps({"version": VERSION, **asdict(self)}, indent=1) + "\n").encode()


def newest_step(names: Mapping[str, Any] | list[str]) -> int:
    """The number of the newest checkpoint among a job's relative paths; -1 without one."""
    return max((int(found[1]) for found in map(STEP.fullmatch, names) if found), default=-1)


def local_step(folder: Path) -> int:
    """The number of the newest checkpoint in a job's folder; -1 without one."""
    return newest_step([f"checkpoints/{path.name}" for path in (folder / "checkpoints").glob("step-*.ckpt")])


def object_name(path: str, sha256: str) -> str:
    """`metrics.json` -> `metrics.3fa9c1d2e4b5.json`: readable, and another one for other content."""
    given = PurePosixPath(path)
    return str(given.with_name(f"{given.stem}.{sha256[:12]}{given.suffix}"))


def read_manifest(content: bytes, address: str) -> Manifest:
    """Check and read a manifest that anybody may have written.

    Raises:
        CheckpointError: it is no manifest of this version, or names a path outside of the job.
    """
    try:
        found = json.loads(content)
        version = found["version"]
        files = {
            str(path): Entry(str(entry["object"]), int(entry["size"]), str(entry["sha256"]))
            for path, entry in found["files"].items()
        }
        manifest = Manifest(str(found["state"]), float(found["written"]), str(found["writer"]), files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"storage={address}: {MANIFEST} cannot be read ({type(error).__name__}): delete it to begin anew, or name another prefix."
        ) from error
    if version != VERSION:
        raise CheckpointError(
            f"storage={address} was written by another version ({version}) of this program: use that one, or name another prefix."
        )
    for name in (name for path, entry in files.items() for name in (path, entry.object)):
        if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
            raise CheckpointError(f"storage={address}: {MANIFEST} names {name!r}, outside of the job: it is not used.")
    return manifest

"""A run's folder in a storage (s3://, gs://, file://, whatever fsspec reaches): the small files that a rerun reads, here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from summarizer.errors import CheckpointError
from summarizer.provenance import NEW_FILE_BYTES, NEW_FILES
from summarizer.storage.manifest import MANIFEST, read_manifest
from summarizer.storage.place import PACKAGES

FILES = (
    "config.yaml", "overrides.yaml", "provenance.json", "changes.diff", "data.json", "status.json", "metrics.json",
)  # fmt: skip
LARGEST = 100_000_000
"""Bytes of one file; a model or a checkpoint is never read."""


def is_address(text: str) -> bool:
    """Whether a text names a storage and no path of this machine."""
    return "://" in text


@contextmanager
def downloaded(address: str) -> Iterator[Path]:
    """A folder of the run's own names (`<time>/<job>`) with its small files, removed at the end.

    Raises:
        CheckpointError: the storage cannot be reached, or no run is there.
    """
    import fsspec

    protocol = address.partition("://")[0]
    parts = PurePosixPath(address.partition("://")[2]).parts
    with tempfile.TemporaryDirectory(prefix="summarizer-rerun-") as temporary:
        folder = Path(temporary).joinpath(*(part for part in parts[-2:] if part not in ("/", "..")))
        try:
            filesystem, root = fsspec.core.url_to_fs(address.rstrip("/"))
            found = fetch(filesystem, root, folder)
        except ImportError as error:
            raise CheckpointError(
                f"rerun={address}: reading {protocol}:// needs `pip install '{PACKAGES.get(protocol, protocol)}'`."
            ) from error
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(f"rerun={address} is no address that can be read ({error}).") from error
        except Exception as error:  # each storage has its own kinds
            raise CheckpointError(
                f"rerun={address} cannot be reached ({type(error).__name__}): check the address and the credentials."
            ) from error
        if "metrics.json" not in found:
            raise CheckpointError(
                f"rerun={address}: no finished training is there; name a job's folder, one that holds metrics.json."
            )
        yield folder


def fetch(filesystem: Any, root: str, folder: Path) -> list[str]:
    """Copy the files that are there, of a job that `storage=` keeps or of a folder that was copied; returns their names.

    Raises:
        CheckpointError: one is larger than any that a run writes, or would be written outside of the folder.
    """
    prefix = filesystem._strip_protocol(root).rstrip("/")
    objects = kept_objects(filesystem, prefix)
    wanted = {name: LARGEST for name in FILES if name in objects}
    wanted |= {name: NEW_FILE_BYTES for name in objects if name.startswith(f"{NEW_FILES}/")}
    for name, largest in wanted.items():
        size = filesystem.size(f"{prefix}/{objects[name]}") or 0
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise CheckpointError(f"{prefix}/{name}: a name that leads out of the run's folder is not downloaded.")
        if size > largest:
            raise CheckpointError(
                f"{prefix}/{name} has {size / 1e6:,.0f} MB: no run writes that; download the folder yourself if it is right."
            )
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(filesystem.cat_file(f"{prefix}/{objects[name]}"))
    return list(wanted)


def kept_objects(filesystem: Any, prefix: str) -> dict[str, str]:
    """Files of a run by their names in its folder -> the object that holds each."""
    if filesystem.isfile(f"{prefix}/{MANIFEST}"):
        manifest = read_manifest(filesystem.cat_file(f"{prefix}/{MANIFEST}"), prefix)
        return {path: entry.object for path, entry in manifest.files.items()}
    found = [name for name in FILES if filesystem.isfile(f"{prefix}/{name}")]
    if filesystem.isdir(f"{prefix}/{NEW_FILES}"):
        found += [str(path)[len(prefix) + 1 :] for path in filesystem.find(f"{prefix}/{NEW_FILES}")]
    return {name: name for name in found}

"""A place that fsspec reaches (s3://, gs://, a folder), with errors that are sentences."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from summarizer.errors import ConfigError, OutputError, SummarizerError

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "summarizer[gcs]", "gcs": "summarizer[gcs]"}
"""Protocol -> what pip installs for it."""
NETWORK = {"config_kwargs": {"connect_timeout": 10, "read_timeout": 60, "retries": {"max_attempts": 4}}}
"""Of the S3 client, whose own patience is minutes."""
FORBIDDEN = (
    "forbidden",
    "accessdenied",
    "access denied",
    "invalidaccesskeyid",
    "signaturedoesnotmatch",
    "unauthorized",
)
ABSENT = ("nosuchbucket", "bucket does not exist", "not found")


@dataclass(frozen=True)
class Place:
    """One folder of a storage. Every method raises what `saying` makes of errors."""

    address: str
    """As the user wrote it, without what a URL may carry of credentials."""
    filesystem: Any
    root: str

    def __truediv__(self, name: str) -> Place:
        return replace(self, address=f"{self.address}/{name}", root=f"{self.root}/{name}")

    def names(self) -> list[str]:
        """Of all objects below it, relative to it, sorted."""
        with saying(self.address):
            self.filesystem.invalidate_cache()
            try:
                found = self.filesystem.find(self.root)
            except FileNotFoundError:
                return []
            return sorted(str(path)[len(self.root) + 1 :] for path in found)

    def read(self, name: str) -> bytes | None:
        """None where there is none."""
        with saying(self.address):
            self.filesystem.invalidate_cache()
            try:
                return bytes(self.filesystem.cat_file(f"{self.root}/{name}"))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all, also in a folder."""
        with saying(self.address):
            path = f"{self.root}/{name}"
            if not self._is_local:
                self.filesystem.pipe_file(path, content)
                return
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=Path(path).parent, prefix=".", delete=False) as file:
                file.write(content)
            os.replace(file.name, path)

    def upload(self, name: str, source: Path) -> None:
        """A file of any size, whole or not at all, also in a folder."""
        with saying(self.address):
            path = f"{self.root}/{name}"
            if not self._is_local:
                self.filesystem.put_file(str(source), path)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.part")
            shutil.copyfile(source, partial)
            os.replace(partial, target)

    def download(self, name: str, target: Path) -> None:
        """A file of any size, to be checked by the caller."""
        with saying(self.address):
            self.filesystem.get_file(f"{self.root}/{name}", str(target))

    def delete(self, names: list[str]) -> None:
        """Done already counts as done."""
        with saying(self.address):
            for name in names:
                try:
                    self.filesystem.rm_file(f"{self.root}/{name}")
                except FileNotFoundError:
                    continue

    @property
    def _is_local(self) -> bool:
        return "file" in _protocols(self.filesystem)


def open_place(address: str) -> Place:
    """The place that `storage=` names.

    Raises:
        ConfigError: it is no address, or the client for it is not installed.
    """
    import fsspec

    protocol, separator, rest = address.partition("://")
    if "@" in rest.partition("/")[0]:
        raise ConfigError(
            f"storage={protocol}://... holds credentials: leave them out, and set the variables of its client instead "
            "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or GOOGLE_APPLICATION_CREDENTIALS)."
        )
    shown = address.rstrip("/")
    target = shown if separator else str(Path(address).expanduser().resolve())
    options = NETWORK if protocol in ("s3", "s3a") and separator else {}
    try:
        filesystem, root = fsspec.core.url_to_fs(target, **options)
    except ImportError as error:
        raise ConfigError(f"storage={shown} needs `pip install '{PACKAGES.get(protocol, protocol)}'`.") from error
    except ValueError as error:
        raise ConfigError(
            f"storage={shown} is no address that can be used: name s3://bucket/prefix or a folder."
        ) from error
    if separator and not rest.strip("/"):
        raise ConfigError(f"storage={address} names no bucket: write {protocol}://bucket/prefix.")
    return Place(shown, filesystem, str(filesystem._strip_protocol(root)).rstrip("/"))


@contextmanager
def saying(address: str) -> Iterator[None]:
    """Turn the errors of any client into one sentence; its own text may hold a key and is not repeated.

    Raises:
        OutputError
    """
    try:
        yield
    except SummarizerError:
        raise
    except Exception as error:
        raise OutputError(f"storage={address} {what_failed(error)}") from error


def what_failed(error: Exception) -> str:
    """A clause about an error of a client, and what to do."""
    name, text = type(error).__name__, str(error).lower()
    if "credentials" in name.lower() or "credentials" in text:
        return (
            "finds no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (of a rented machine: name them in "
            "provider.pass_environment)."
        )
    if isinstance(error, PermissionError) or any(word in text for word in FORBIDDEN):
        return "is forbidden to this key or user: it must be able to list, read, write and delete there."
    if isinstance(error, FileNotFoundError) or any(word in text for word in ABSENT):
        return "does not exist: create the bucket, or correct the address."
    if (
        isinstance(error, OSError)
        and error.errno
        and error.strerror == os.strerror(error.errno)
        and not _is_network(error)
    ):
        return f"cannot be used ({error.strerror})."  # a folder's trouble, in the system's own words
    return f"does not answer as a storage does ({name}): check the address and the network."


def _is_network(error: OSError) -> bool:
    return isinstance(error, ConnectionError | TimeoutError)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)

"""A job's folder on this computer, opened once: no name below it is followed through a link, so nothing outside is touched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

CHUNK = 1 << 20


class Folder:
    """Use as a context manager. Paths are relative, checked by `names.why_refused`, and separated by slashes.

    Raises:
        OSError: of every method, as the system reports it; a link on the way is an error too.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._top)

    def open(self, path: str, flags: int, mode: str) -> BinaryIO:
        """A regular file."""
        with self._parent(path, make=bool(flags & os.O_CREAT)) as (parent, name):
            # Without O_NONBLOCK a named pipe would be waited for.
            descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=parent)
        file: BinaryIO = os.fdopen(descriptor, mode)  # type: ignore[assignment]
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise OSError(f"{path} is no regular file")
        return file

    def info(self, path: str) -> os.stat_result | None:
        """Of a regular file; None when there is none."""
        try:
            with self._parent(path) as (parent, name):
                found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except OSError:
            return None
        return found if stat.S_ISREG(found.st_mode) else None

    def digest(self, path: str) -> str:
        """SHA-256 of a file, in hexadecimal."""
        hashed = hashlib.sha256()
        with self.open(path, os.O_RDONLY, "rb") as file:
            while chunk := file.read(CHUNK):
                hashed.update(chunk)
        return hashed.hexdigest()

    def move(self, source: str, target: str) -> None:
        """Put a file in the place of another one, whose folders are made."""
        with self._parent(source) as (old, name), self._parent(target, make=True) as (new, new_name):
            os.replace(name, new_name, src_dir_fd=old, dst_dir_fd=new)

    def remove(self, path: str) -> None:
        """A file; nothing when it is not there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), self._parent(path) as (parent, name):
            os.unlink(name, dir_fd=parent)

    @contextlib.contextmanager
    def _parent(self, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """Descriptor of the folder that a file lies in, and the file's name in it."""
        *folders, name = path.split("/")
        assert name not in ("", ".", ".."), path
        here = os.dup(self._top)
        try:
            for folder in folders:
                assert folder not in ("", ".", ".."), path
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(folder, dir_fd=here)
                below = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

"""A job's folder on this computer, opened once: no name below it is followed through a link, so nothing outside is touched."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from launchers.transport.names import SCRATCH

CHUNK = 1 << 20
_WRITING = f"{SCRATCH}/writing"


class Folder:
    """Use as a context manager. Paths are relative, checked by `names.why_refused`, and separated by slashes.

    Raises:
        OSError: of every method, as the system reports it; a link on the way is an error too.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._top = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._last: tuple[str, int] | None = None
        """The folder that was opened last, and its descriptor: files of one folder come one after the other."""

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        os.close(self._top)

    def open(self, path: str, flags: int, mode: str) -> BinaryIO:
        """A regular file."""
        parent, name = self._parent(path, make=bool(flags & os.O_CREAT))
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
            parent, name = self._parent(path)
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

    def write(self, path: str, content: bytes, before: Callable[[os.stat_result], None] = lambda info: None) -> None:
        """Put a small file in the place of another one, whole or not at all; `before` is called just before it has its name."""
        scratch, name = self._below_top(_WRITING)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o666, dir_fd=scratch)
        try:
            written = 0
            while written < len(content):
                written += os.write(descriptor, content[written:])
            before(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        parent, new_name = self._parent(path, make=True)
        os.replace(name, new_name, src_dir_fd=scratch, dst_dir_fd=parent)

    def link(self, path: str) -> str | None:
        """The target of a link; None when there is none of that name."""
        try:
            parent, name = self._parent(path)
            return os.readlink(name, dir_fd=parent)
        except OSError:
            return None

    def make_link(self, path: str, target: str) -> None:
        """Put a link in the place of a file or another link."""
        scratch, name = self._below_top(_WRITING)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=scratch)
        os.symlink(target, name, dir_fd=scratch)
        parent, new_name = self._parent(path, make=True)
        os.replace(name, new_name, src_dir_fd=scratch, dst_dir_fd=parent)

    def make_folder(self, path: str) -> None:
        """A folder, unless it is there."""
        self._parent(f"{path}/x", make=True)

    def move(self, source: str, target: str) -> None:
        """Put a file in the place of another one, whose folders are made."""
        scratch, name = self._below_top(source)
        parent, new_name = self._parent(target, make=True)
        os.replace(name, new_name, src_dir_fd=scratch, dst_dir_fd=parent)

    def remove(self, path: str) -> None:
        """A file or link; nothing when it is not there."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            parent, name = self._parent(path)
            os.unlink(name, dir_fd=parent)

    def flush(self) -> None:
        """See that everything in it is on the disk: once for many files, where the system can flush a whole file system."""
        import ctypes

        flush = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if flush is None:
            os.sync()
        elif flush(self._top):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    # --- where a file lies: descriptor of its folder, and its name in it

    def _below_top(self, path: str) -> tuple[int, str]:
        """Of a file of `SCRATCH`, whose descriptor stays open beside that of the last folder."""
        folder, _, name = path.partition("/")
        assert folder == SCRATCH
        assert "/" not in name
        if self._scratch is None:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, dir_fd=self._top)
            self._scratch = self._opened(folder, self._top)
        return self._scratch, name

    _scratch: int | None = None

    def _parent(self, path: str, make: bool = False) -> tuple[int, str]:
        folder, _, name = path.rpartition("/")
        assert name not in ("", ".", ".."), path
        if not folder:
            return self._top, name
        if self._last is not None and self._last[0] == folder:
            return self._last[1], name
        here = os.dup(self._top)
        try:
            for part in folder.split("/"):
                assert part not in ("", ".", ".."), path
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=here)
                below = self._opened(part, here)
                os.close(here)
                here = below
        except BaseException:
            os.close(here)
            raise
        if self._last is not None:
            os.close(self._last[1])
        self._last = (folder, here)
        return here, name

    @staticmethod
    def _opened(name: str, parent: int) -> int:
        return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)

    def _forget(self) -> None:
        for descriptor in (self._last and self._last[1], self._scratch):
            if descriptor is not None:
                os.close(descriptor)
        self._last, self._scratch = None, None

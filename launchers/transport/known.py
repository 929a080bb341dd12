"""What is known of a job's downloads: digests of files that were fetched, each with a mark that tells whether it was touched since.

One JSON object a line, `{PATH: [MARK, DIGEST]}`, `{PATH: {"link": TARGET}}` or `{PATH: null}`; later lines win, and a damaged
one costs only itself. Lines are appended as files arrive; a file whose line did not get here is read again, and found right.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, BinaryIO

from launchers.remote.checked import is_digest
from launchers.transport.folder import Folder
from launchers.transport.names import SCRATCH, why_refused

KNOWN = f"{SCRATCH}/known.json"
WASTE = 1000
"""Lines that no longer say anything, beyond which the file is written anew."""


class Known:
    """Of one job's folder, while it is open."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.files: dict[str, tuple[str, str]] = {}
        """Path -> mark and digest."""
        self._before: dict[str, str] = {}
        """Path -> digest of what was downloaded before that: a process that ends before a file is replaced leaves the old one."""
        self.links: dict[str, str] = {}
        """Path -> target, relative to the job's folder."""
        self._lines = 0
        self._file: BinaryIO | None = None
        self._is_cut_off = False
        with contextlib.suppress(OSError), folder.open(KNOWN, os.O_RDONLY, "rb") as file:
            content = file.read()
            self._is_cut_off = bool(content) and not content.endswith(b"\n")
            for line in content.splitlines():
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            rows = json.loads(line)
        except (ValueError, RecursionError):
            return
        self._lines += 1
        for path, row in rows.items() if isinstance(rows, dict) else ():
            if why_refused(path) is not None:
                continue
            _, earlier = self.files.pop(path, ("", ""))
            self.links.pop(path, None)
            if isinstance(row, dict) and isinstance(row.get("link"), str) and why_refused(row["link"]) is None:
                self.links[path] = row["link"]
            elif isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and is_digest(row[1]):
                self.files[path] = (row[0], row[1])
                if earlier != row[1]:
                    self._before[path] = earlier

    def before(self, path: str) -> str:
        """Digest of a file's content before its last download; empty where there was none."""
        return self._before.get(path, "")

    def holds(self, path: str) -> bool:
        return path in self.files or path in self.links

    def digest(self, path: str, info: os.stat_result) -> str:
        mark, digest = self.files.get(path, ("", ""))
        if mark != _mark(info):
            digest = self._folder.digest(path)
            if path in self.files and self.files[path][1] == digest:
                self.remember(path, info, digest)
        return digest

    def remember(self, path: str, info: os.stat_result, digest: str) -> None:
        row = (_mark(info), digest)
        if self.files.get(path) != row:
            self.links.pop(path, None)
            self.files[path] = row
            self._write(path, list(row))

    def remember_link(self, path: str, target: str) -> None:
        if self.links.get(path) != target:
            self.files.pop(path, None)
            self.links[path] = target
            self._write(path, {"link": target})

    def forget(self, path: str) -> None:
        if self.holds(path):
            self.files.pop(path, None)
            self.links.pop(path, None)
            self._write(path, None)

    def _write(self, path: str, row: Any) -> None:
        if self._file is None:
            self._file = self._folder.open(KNOWN, os.O_WRONLY | os.O_CREAT | os.O_APPEND, "ab")
            if self._is_cut_off:  # that line must not swallow the next one
                self._file.write(b"\n")
        self._file.write(json.dumps({path: row}).encode() + b"\n")
        self._file.flush()
        self._lines += 1

    def close(self) -> None:
        """Hand over what was written; a file that holds much that is over is written anew."""
        if self._file is not None:
            self._file.close()
        if self._lines > len(self.files) + len(self.links) + WASTE:
            rows: dict[str, Any] = {path: list(row) for path, row in self.files.items()}
            rows |= {path: {"link": target} for path, target in self.links.items()}
            self._folder.write(KNOWN, b"".join(json.dumps({path: row}).encode() + b"\n" for path, row in rows.items()))


def _mark(info: os.stat_result) -> str:
    return f"{info.st_size}:{info.st_mtime_ns}"

"""Files that were searched for secrets and found clean, with their digests: a file that has not changed is read once.

A row holds for a path with the same size, times and inode, and for the same rules and secrets. Several processes may use it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from launchers import secrecy, secret_scan

KEPT_S = 30 * 86400.0
"""After which a row that nobody asked for is forgotten."""
SETTLED_NS = 2_000_000_000
"""A file that changed later than this before it was read may change again without another time: it is read again."""
_ROUNDS = 20_000


class Scanned:
    """Use as a context manager. A database that fails only costs the time of another search."""

    def __init__(self, file: Path) -> None:
        self._db: sqlite3.Connection | None = None
        self._context = ""
        self._fresh: list[tuple[str, str, str, str, float]] = []
        with contextlib.suppress(sqlite3.Error, OSError):
            file.touch(mode=0o600)
            self._db = sqlite3.connect(file, timeout=5.0, isolation_level=None)
            with self._guarded():
                self._db.execute("CREATE TABLE IF NOT EXISTS salt (value TEXT)")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS clean (path TEXT, context TEXT, mark TEXT, digest TEXT, used REAL, "
                    "PRIMARY KEY (path, context))"
                )
                self._db.execute(
                    "INSERT INTO salt SELECT ? WHERE NOT EXISTS (SELECT 1 FROM salt)", (os.urandom(16).hex(),)
                )
                (salt,) = self._db.execute("SELECT value FROM salt").fetchone()
                self._context = _context(str(salt))

    def __enter__(self) -> Scanned:
        return self

    def __exit__(self, *error: object) -> None:
        with self._guarded():
            if self._db is not None:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany("INSERT OR REPLACE INTO clean VALUES (?, ?, ?, ?, ?)", self._fresh)
                self._db.execute("DELETE FROM clean WHERE used < ?", (time.time() - KEPT_S,))
                self._db.execute("COMMIT")
        if self._db is not None:
            self._db.close()

    def digest(self, path: str, how: str, info: os.stat_result) -> str | None:
        """Of a file that was found clean and has not changed since; None where it must be searched.

        Args:
            how: whatever else the finding depends on.
        """
        with self._guarded():
            if self._db is not None and self._context:
                asked = (path, self._context + how, _mark(info))
                row = self._db.execute(
                    "SELECT digest FROM clean WHERE path = ? AND context = ? AND mark = ?", asked
                ).fetchone()
                if row is not None:
                    self._fresh.append((*asked, str(row[0]), time.time()))
                    return str(row[0])
        return None

    def remember(self, path: str, how: str, info: os.stat_result, digest: str) -> None:
        """Note a file that was found clean; `info` is from before it was read."""
        if self._context and time.time_ns() - max(info.st_mtime_ns, info.st_ctime_ns) > SETTLED_NS:
            self._fresh.append((path, self._context + how, _mark(info), digest, time.time()))

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, TypeError):
            self._context = ""


def _mark(info: os.stat_result) -> str:
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}:{info.st_ino}:{info.st_dev}"


def _context(salt: str) -> str:
    """The rules and the secrets that were looked for, slow to guess."""
    rules = b"".join(Path(str(module.__file__)).read_bytes() for module in (secret_scan, secrecy))
    values = b"\0".join(sorted(secrecy.secret_values().values()))
    return hashlib.pbkdf2_hmac("sha256", hashlib.sha256(rules).digest() + values, salt.encode(), _ROUNDS).hex()

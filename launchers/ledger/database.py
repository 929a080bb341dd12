"""The file of the ledger: opened, migrated, one transaction at a time."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from launchers.errors import MendInput
from launchers.ledger.schema import SCHEMA_VERSION, create, migrate

_OTHER_TABLES = re.compile(r"no such (table|column)|duplicate column|already exists")
"""What SQLite says of a file that is whole, but not a ledger of the version that it names."""


class Database:
    """One connection for all threads of a process."""

    def __init__(self, path: Path, durable: bool = True) -> None:
        """`durable=False` trades durability for speed: for a ledger that no other
        process opens, and that nobody needs after this one.
        """
        self.path = path
        self._lock = threading.RLock()
        try:
            if not path.exists():
                path.touch(mode=0o600)
            elif path.stat().st_mode & 0o077:
                path.chmod(0o600)
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._db.execute(f"PRAGMA journal_mode={'WAL' if durable else 'MEMORY'}")
            self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
            self._db.execute(f"PRAGMA locking_mode={'NORMAL' if durable else 'EXCLUSIVE'}")
            self._migrate()
        except (OSError, sqlite3.DatabaseError) as error:
            if isinstance(error, OSError | sqlite3.OperationalError) and not _OTHER_TABLES.search(str(error)):
                raise MendInput(
                    f"The ledger {path} can't be opened ({error}): make its folder writable and see that its disk has room, or "
                    "set LAUNCHERS_HOME to another folder."
                ) from None
            raise MendInput(
                f"The ledger {path} can't be read ({error}): move it away to start a new one, "
                "and look with `python -m launchers reap` for machines that the old one knew."
            ) from None

    def close(self) -> None:
        self._db.close()

    def _migrate(self) -> None:
        if self._version() == SCHEMA_VERSION:
            return
        with self.transaction() as db:
            version = self._version()
            if version > SCHEMA_VERSION:
                raise MendInput(
                    f"The ledger {self.path} was written by a newer version of launchers ({version} > {SCHEMA_VERSION}): "
                    "update this one, or set LAUNCHERS_HOME to another folder."
                )
            if version == 0:
                create(db)
                version = 1
            migrate(db, version)

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and alone: other threads and processes wait. Also for the tables of others, such as a search's trials."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # a full disk may have rolled it back already
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

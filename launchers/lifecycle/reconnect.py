"""A launch changes hands: one client at a time holds it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from launchers.errors import MendInput


@contextlib.contextmanager
def claimed(home: Path, launch: str) -> Iterator[None]:
    """Hold a launch for this process alone; freed by the system when the process dies.

    Raises:
        MendInput: another client holds it.
    """
    folder = home / "locks"
    folder.mkdir(exist_ok=True, mode=0o700)
    with (folder / f"{launch}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MendInput(
                f"Another client on this machine already attends to {launch}: leave it to that one, or stop it first."
            ) from None
        yield

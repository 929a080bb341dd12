"""Lock of a launch: one client at a time is attached to it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

from launchers.errors import MendInput


@contextlib.contextmanager
def claimed(home: Path, launch: str) -> Iterator[None]:
    """Lock a launch for this process; the system frees it when the process dies.

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
                f"Another client on this computer is already attached to {launch}: use that one, or stop it first."
            ) from None
        yield

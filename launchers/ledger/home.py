"""The folder of everything that outlives a client on the user's computer."""

from __future__ import annotations

import os
from pathlib import Path

from launchers.errors import MendInput


def launchers_home() -> Path:
    """The folder of the ledger, the launches' ssh keys and the packed working trees; mode 0700.

    Raises:
        MendInput: it can't be made or used, or belongs to another user, who could read and replace what it holds.
    """
    override = os.environ.get("LAUNCHERS_HOME")
    if override:
        home = Path(override)
    else:
        import platformdirs

        home = Path(platformdirs.user_data_dir("launchers"))
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = home.stat()
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            raise MendInput(
                f"The folder {home} belongs to another user, who could read and replace keys in it: set LAUNCHERS_HOME to one of "
                "yours, such as $(mktemp -d)."
            )
        if status.st_mode & 0o077:
            home.chmod(0o700)
    except OSError as error:
        raise MendInput(
            f"The folder {home} can't be used ({error.strerror or error}): make it writable, or set LAUNCHERS_HOME to another folder."
        ) from None
    return home

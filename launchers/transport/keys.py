"""The ssh key pair of a launch: made at its first use, kept while the launch is open, gone with it."""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from launchers.errors import CredentialError

_making = threading.Lock()
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True)
class KeyPair:
    """Of one launch. `name` is what an account's list of keys calls it."""

    private: Path
    name: str

    @property
    def public(self) -> str:
        """One line in the form of authorized_keys; made now if there is none yet.

        Raises:
            CredentialError: the private half is another user's, or others can read it.
        """
        if self.private == NO_KEYS.private:
            return ""
        from cryptography.hazmat.primitives import serialization

        with _making:
            if not self.private.exists():
                _make(self.private)
        _check_ours(self.private)
        key = serialization.load_ssh_private_key(self.private.read_bytes(), None)
        line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return f"{line.decode()} {self.name}"


NO_KEYS = KeyPair(Path(os.devnull), "")
"""Where there is nothing to log in to."""


def key_name(client: str, launch: str) -> str:
    """What a key is called in an account: whose it is, and of which launch."""
    return f"launchers-{client}-{launch}"


def launch_keys(home: Path, client: str, launch: str) -> KeyPair:
    """The key pair of a launch."""
    return KeyPair(home / "launches" / launch / "id_ed25519", key_name(client, launch))


def former_keys(home: Path) -> KeyPair:
    """The one pair that versions before kept for all launches; there may be none."""
    return KeyPair(home / "ssh" / "id_ed25519", "launchers")


def forget(keys: KeyPair) -> None:
    """Remove a launch's pair from this disk."""
    shutil.rmtree(keys.private.parent, ignore_errors=True)


def blob(public_key: str) -> str:
    """Type and key without the comment."""
    return " ".join(public_key.split()[:2])


def _check_ours(private: Path) -> None:
    status = private.lstat()
    if status.st_mode & 0o077 or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
        raise CredentialError(
            f"Others can read the private key {private}: run `python -m launchers stop` for its launch, which removes it."
        )


def _make(private: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    # By rename: a pair that exists is whole, whenever this process is killed.
    partial = private.with_name(f"{private.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    partial.replace(private)

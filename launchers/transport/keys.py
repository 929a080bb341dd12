"""Our own key pair, made once and used for nothing else."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from launchers.errors import CredentialError


@dataclass(frozen=True)
class KeyPair:
    private: Path
    public: str
    """One line in the form of authorized_keys."""


NO_KEYS = KeyPair(Path(os.devnull), "")
"""Where there is nothing to log in to."""


def key_pair(home: Path) -> KeyPair:
    """The key pair in `home`/ssh, made if absent.

    Raises:
        CredentialError: others can read the private key.
    """
    private = home / "ssh" / "id_ed25519"
    public = private.with_suffix(".pub")
    if not private.exists():
        _make(private, public)
    if private.stat().st_mode & 0o077:
        raise CredentialError(
            f"Others can read the private key {private}: run `chmod 600 {private}`, or make a new pair with "
            "`python -m launchers doctor --rotate-key`."
        )
    return KeyPair(private, public.read_text().strip())


def rotate(home: Path) -> KeyPair:
    """Put the old pair aside, dated, and make a new one."""
    for path in ((home / "ssh" / "id_ed25519"), (home / "ssh" / "id_ed25519.pub")):
        if path.exists():
            path.rename(path.with_name(f"{path.name}.{int(time.time())}.old"))
    return key_pair(home)


def _make(private: Path, public: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    # The public half first, and the private one by rename: a pair that exists is whole, whoever else makes one now.
    public.write_bytes(line + b" launchers\n")
    partial = private.with_name(f"{private.name}.{os.getpid()}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
    partial.replace(private)

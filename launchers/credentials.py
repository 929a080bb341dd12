"""The API key of a provider: where it is read, what it may look like, and where it may go."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from launchers.errors import CredentialError, MendInput
from launchers.secrecy import remember

REHEARSAL = "emulated-"
"""Begins the key of an emulator: the only kind that goes to other addresses than the provider's own."""
_FAULTS = (
    ("a line break", re.compile("\n")),
    ("a carriage return", re.compile("\r")),
    ("a blank", re.compile(r"\s")),
    ("a quotation mark", re.compile("[\"'`\u2018-\u201f\u00ab\u00bb]")),
    ("a character that is not ASCII", re.compile(r"[^\x21-\x7e]")),
)


def checked(key: str, place: str) -> str:
    """The key, if it can be one: what is pasted with more than the key ends up in headers and other people's error texts.

    Raises:
        CredentialError: what is wrong with it; its text is not repeated.
    """
    for what, shape in _FAULTS:
        if shape.search(key):
            raise CredentialError(
                f"{place} holds {what}, which no key has: set it again to the key alone, on one line and without quotes."
            )
    return key


def key_from_environment(variable: str) -> str | None:
    """A variable's key; None where it is not set or blank."""
    key = os.environ.get(variable, "")
    return checked(key, variable) if key.strip() else None


def read_key_file(path: Path) -> str | None:
    """The text of a file with a key; None where there is none.

    Raises:
        CredentialError: others can read it.
    """
    if not path.is_file():
        return None
    if path.stat().st_mode & 0o077:
        raise CredentialError(f"Others can read the key file {path}: run `chmod 600 {path}`.")
    return path.read_bytes().decode(errors="replace")


def key_in_file(text: str, path: Path) -> str | None:
    """The key that was found in a file; the last line's end belongs to the file."""
    if not text.strip():
        return None
    key = checked(text.rstrip("\r\n"), f"The key file {path}")
    remember(f"the key in {path}", key)
    return key


def check_passed(names: Iterable[str]) -> None:
    """Refuse keys that are to be handed to a job and can't be right.

    Raises:
        CredentialError: see `checked`.
    """
    for name in names:
        if re.search(r"(API_?KEY|TOKEN)$", name, re.IGNORECASE):
            checked(os.environ.get(name, ""), name)


def check_address(key: str, api_url: str | None, title: str, variable: str, domain: str | None) -> None:
    """Refuse to send a key anywhere but to the provider it is for.

    Args:
        domain: of the provider's own hosts; None where another address is always an emulator's.

    Raises:
        MendInput: the address is none.
        CredentialError: the account's key would go there, or any key in clear text.
    """
    if api_url is None:
        return
    parts = urlsplit(api_url)
    host = (parts.hostname or "").lower()
    # Programs differ in how they read these: what one takes for the host is another's user name.
    odd = re.search(r"[\\@\s\x00-\x1f]", api_url)
    if odd or parts.scheme not in ("http", "https") or not host:
        raise MendInput(
            f"provider.api_url {api_url!r} is no address: it must begin with http:// or https:// and name a host."
        )
    if parts.scheme == "http" and not _is_loopback(host):
        raise CredentialError(
            f"provider.api_url {api_url} is not encrypted, so that everybody on the way could read the key: use https."
        )
    is_own = parts.scheme == "https" and domain is not None and (host == domain or host.endswith(f".{domain}"))
    if not is_own and not key.startswith(REHEARSAL):
        raise CredentialError(
            f"provider.api_url {api_url} is not {title}, so that the key in {variable} was not sent there: remove api_url, or "
            f"for a rehearsal set {variable} to the key that the emulator prints ({REHEARSAL}...)."
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fingerprint(key: str) -> str:
    """What the ledger keeps of a key: enough to tell two apart, and nothing to guess one from."""
    return hashlib.sha256(b"launchers " + key.encode()).hexdigest()[:12]

"""The secrets that this process knows: values of its environment, keys it read from files, and keys other tools left here.

Whatever is sent or written is searched for them (`secret_scan.py`), and other people's error texts are cleaned of them.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from launchers.registry import descriptors

SECRET_NAMES = re.compile(
    r"(^|_)(\w*API_?KEY|KEY|\w*TOKEN|\w*SECRET|PASS(WORD|WD|PHRASE)?|\w+PASS(WORD|WD)|PWD|CREDENTIALS?|PAT|DSN)(_|$)",
    re.IGNORECASE,
)
"""Environment variables whose value is a secret."""
_NO_SECRET_NAMES = re.compile(
    r"^(OLD)?PWD$|_(PATH|FILE|DIR|NAME|TYPE|URL|URI|FINGERPRINT|ALGORITHM)$|^GPG_KEY$", re.IGNORECASE
)
_MIN_LENGTH = 8
"""Shorter values would be found everywhere by chance."""
_MIN_WORD = 12
"""Of a value that is a plain word, such as the `postgres` of a test's database."""

_remembered: dict[str, str] = {}


def remember(name: str, value: str) -> None:
    """Take note of a secret that was read elsewhere than from the environment."""
    _remembered[name] = value


def secret_values(environment: Mapping[str, str] | None = None) -> dict[str, bytes]:
    """The secrets in an environment, by variable; without one, all that this process knows of."""
    if environment is not None:
        return _secrets_among(frozenset(environment.items()))
    known = {name: value.strip().encode() for name, value in _remembered.items() if _is_telling(value.strip())}
    return _secrets_among(frozenset(os.environ.items())) | known | stored_keys(os.environ.get("HOME", ""))


@functools.lru_cache(maxsize=4)
def _secrets_among(environment: frozenset[tuple[str, str]]) -> dict[str, bytes]:
    found: dict[str, str] = {}
    for name, value in environment:
        if SECRET_NAMES.search(name) and not _NO_SECRET_NAMES.search(name):
            found[name] = value
        elif "://" in value and "@" in value:
            password = _password_of(value)
            if password:
                found[name] = password
    return {name: value.strip().encode() for name, value in found.items() if _is_telling(value.strip())}


def _is_telling(value: str) -> bool:
    return len(value) >= (_MIN_WORD if value.isalpha() and value.islower() else _MIN_LENGTH)


def _password_of(address: str) -> str | None:
    """The password in an address such as that of a database."""
    try:
        password = urlsplit(address).password
    except ValueError:
        return None
    return unquote(password) if password else None


@functools.lru_cache(maxsize=4)
def stored_keys(home: str) -> dict[str, bytes]:
    """Keys that other tools keep in the user's home folder, as far as they can be read."""
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path(home) / ".config")
    hub = Path(os.environ.get("HF_HOME") or Path(home) / ".cache" / "huggingface")
    places = (
        *(place for found in descriptors().values() for place in found.key_files(Path(home), config)),
        (Path(os.environ.get("HF_TOKEN_PATH") or hub / "token"), r"(\S{8,})"),
        (Path(home) / ".netrc", r"password\s+(\S{8,})"),
    )
    found: dict[str, bytes] = {}
    for path, shape in places:
        try:
            text = path.read_text(errors="replace")
        except (OSError, ValueError):
            continue
        for number, value in enumerate(re.findall(shape, text)):
            found[f"a key in {path}" + (f" ({number + 1})" if number else "")] = value.encode()
    return found


def scrub(text: str) -> str:
    """A text of others without the secrets that this process knows: each is replaced by its variable's name."""
    for name, value in secret_values().items():
        for line in value.decode(errors="replace").splitlines():
            plain = line.strip()
            if len(plain) >= _MIN_LENGTH:
                for form in (plain, repr(plain)[1:-1]):
                    text = text.replace(form, f"[{name}]")
    return text


def scrub_error(error: BaseException) -> None:
    """Clean an exception of others, and those that led to it, whoever shows them."""
    here: BaseException | None = error
    for _ in range(20):
        if here is None:
            return
        here.args = tuple(scrub(part) if isinstance(part, str) else part for part in here.args)
        here = here.__cause__ or here.__context__


class SecretFilter(logging.Filter):
    """Cleans what is logged, tracebacks too."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = scrub(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = scrub(logging.Formatter().formatException(record.exc_info))
        return True

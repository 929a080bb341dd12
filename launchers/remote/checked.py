"""Checks of what client and machine say to each other: a message is refused (`Nonsense`) unless each field is of its form.

Standard library only, and nothing of this folder, as in `messages.py`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import MISSING, field, fields
from typing import Any, Callable, Dict, List, Type, TypeVar

MAX_ROWS = 100000
"""Entries of a job's folder that are looked at; a job that writes more should pack them."""
MAX_SIZE = 1 << 50
MAX_DEPTH = 50
"""Lists and dictionaries in one another."""
MAX_SECONDS = 100 * 86400.0
LONG_TEXT = 100000
_DIGEST = re.compile("[0-9a-f]{64}")

Check = Callable[[Any], Any]
Message = TypeVar("Message")


class Nonsense(ValueError):
    """A message that is none, and why."""


def is_digest(value: object) -> bool:
    """Whether a value is a SHA-256 in hexadecimal, and so may be the name of a file."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


# --- checks: each returns the value as it is kept, or raises `Nonsense` with what it should be


def a_text(longest: int) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise Nonsense("not a text of at most %d characters" % longest)
        return value

    return check


def one_of(*words: str) -> Check:
    def check(value: Any) -> str:
        if value not in words:
            raise Nonsense("none of " + ", ".join(words))
        return str(value)

    return check


def or_none(inner: Check) -> Check:
    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def a_list_of(inner: Check, most: int = MAX_ROWS + 1) -> Check:
    def check(value: Any) -> List[Any]:
        if not isinstance(value, list):
            raise Nonsense("not a list")
        if len(value) > most:
            raise Nonsense("a list of more than %d" % most)
        return [inner(part) for part in value]

    return check


def a_mapping_of(inner: Check) -> Check:
    def check(value: Any) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise Nonsense("not an object")
        return {name: inner(part) for name, part in value.items()}

    return check


def a_message(kind: Type[Message]) -> Check:
    return lambda value: decode(kind, value)


def a_number(value: Any) -> float:
    """Finite and not negative. Compared as it came: a whole number may be too large for a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a number from 0 on")
    return float(value)


def a_time(value: Any) -> float:
    if a_number(value) > MAX_SECONDS:  # nor is NaN a time to end at
        raise Nonsense("not a time of at most %d s" % MAX_SECONDS)
    return float(value)


def a_size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SIZE:
        raise Nonsense("not a size in bytes")
    return value


def an_exit_code(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > 1 << 31:
        raise Nonsense("not an exit code")
    return value


def a_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Nonsense("neither true nor false")
    return value


def a_digest(value: Any) -> str:
    if not is_digest(value):
        raise Nonsense("no SHA-256")
    return str(value)


def any_json(value: Any) -> Any:
    """JSON that can be written down again."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level if isinstance(outer, (list, dict)) for inner in _inside(outer)]
        if not level:
            return value
    raise Nonsense("nested deeper than %d levels" % MAX_DEPTH)


def _inside(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value


def held_to(check: Check, **default: Any) -> Any:
    """A field that is held to a check; required unless it has a default."""
    return field(metadata={"check": check}, **default)


@functools.lru_cache(maxsize=None)
def _fields_of(kind: Any) -> Any:
    return {part.name: part for part in fields(kind)}


def decode(kind: Type[Message], value: Any) -> Message:
    """A message of a kind, out of what came.

    Raises:
        Nonsense: it is none of that kind.
    """
    if not isinstance(value, dict):
        raise Nonsense("it is not an object")
    known = _fields_of(kind)  # type: ignore[arg-type]
    unknown = next((name for name in value if name not in known), None)
    if unknown is not None:
        raise Nonsense("unknown field %a" % unknown[:50])
    found = {}
    for name, part in known.items():
        if name in value:
            try:
                found[name] = part.metadata["check"](value[name])
            except Nonsense as error:
                raise Nonsense("%s: %s" % (name, error)) from None
        elif part.default is MISSING and part.default_factory is MISSING:
            raise Nonsense("%s is missing" % name)
    return kind(**found)

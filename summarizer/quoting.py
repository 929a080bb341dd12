"""Quotes around paths and free text on the command line: Hydra's grammar takes few signs bare, and reads 1e5 as a number."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from summarizer.config import Config
from summarizer.errors import ConfigError

WHOLE = (
    "run",
    "resume",
    "input",
    "runs",
    "output",
    "storage",
    "report.title",
)  # one text each, commas included: no sweep goes over these
OF_HYDRA = ("hydra.sweep.dir", "hydra.sweep.subdir", "hydra.run.dir")


@cache
def text_keys() -> dict[str, bool]:
    """The keys of the schema that hold text -> whether a list of texts."""
    return {**dict(_text_keys(Config, "")), **dict.fromkeys(OF_HYDRA, False)}


def _text_keys(schema: Any, prefix: str) -> Iterator[tuple[str, bool]]:
    for name, hint in get_type_hints(schema).items():
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        for kind in kinds:
            if is_dataclass(kind):
                yield from _text_keys(kind, f"{prefix}{name}.")
            elif kind is str or kind == list[str]:
                yield f"{prefix}{name}", kind is not str


def quote_value(value: str) -> str:
    """`value` as a quoted string of Hydra's override grammar."""
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def unquoted(value: str) -> str:
    """What a value says, with or without quotes and escapes of the grammar."""
    if value[:1] not in ("'", '"') and "\\" not in value:
        return value
    try:
        found = OverridesParser.create().parse_override(f"key={value}").value()
    except HydraException:
        return value
    return found if isinstance(found, str) else value


def quote_text(argument: str) -> str:
    """An override of a key that holds text, with its value quoted where the grammar would not read it as that text.

    A comma list stays a sweep, unless a file has that name; what is quoted already is left as it is.

    Raises:
        ConfigError: the argument is not UTF-8.
    """
    if any("\ud800" <= sign <= "\udfff" for sign in argument):
        shown = argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        raise ConfigError(
            f"the argument {shown} is not UTF-8: rename the file, or set a UTF-8 locale (LC_ALL=C.UTF-8)."
        )
    written, separator, value = argument.partition("=")
    key = written.lstrip("+")
    if not separator or not value or value[0] in "'\"" or value == "null" or key not in text_keys():
        return argument
    if text_keys()[key]:
        return f"{written}={_list(value)}"
    return f"{written}={_text(key, value)}"


def _text(key: str, value: str) -> str:
    if key in WHOLE:
        return quote_value(value)
    if "," in value and not set(value) & set("'\"[](){}") and not Path(value).expanduser().exists():
        return ",".join(_one(part) for part in value.split(","))
    if "," in value and Path(value).expanduser().exists():
        return quote_value(value)
    return _one(value)


def _one(value: str) -> str:
    """The value, quoted unless the grammar reads it as this very text, as null or as a sweep such as choice(a,b)."""
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return quote_value(value)
    if override.is_sweep_override():
        return value
    read = override.value()
    return value if read is None or read == value or "${" in value else quote_value(value)


def _list(value: str) -> str:
    """[a b,ü] -> ['a b','ü'] where the grammar does not take it bare."""
    try:
        OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        inner = value[1:-1]
        if value[0] == "[" and value[-1] == "]" and not set(inner) & set("'\"[]{}"):
            return "[" + ",".join(quote_value(part.strip()) for part in inner.split(",")) + "]"
    return value

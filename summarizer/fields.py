"""What a field of the schema may hold that is no number: it stands with the field, as a `Range` does with a number.

`Annotated[str, Choice("min", "max")]` has these values; any other text is a `Text`, whether its field says so or not, and
`ReadBy` on a field of `model` or `data` names the kinds that read it: set for another kind, it was meant for that one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from summarizer.errors import ConfigError

KINDS = {"model": "architecture", "data": "kind"}
"""Group -> its field that says of which kind it is."""


class Choice:
    """The values that a field may have; `hints` say more of a value that somebody will try."""

    def __init__(self, *values: str, hints: dict[str, str] | None = None) -> None:
        self.values, self.hints = values, hints or {}

    def refuse(self, key: str, given: str) -> str | None:
        if given in self.values:
            return None
        for start, hint in self.hints.items():
            if given.startswith(start):
                return f"{key}={given}: {hint}"
        close = difflib.get_close_matches(given, self.values, n=1)
        hint = f"did you mean {close[0]}?" if close else f"valid are {', '.join(self.values)}."
        return f"{key}={shortened(given)} is not known; {hint}"


@dataclass(frozen=True)
class Text:
    """Bounds of a text, in characters. A character that ends a C string or a line is in no name."""

    least: int = 1
    most: int = 4096
    lines: bool = False
    """It may have several."""

    def refuse(self, key: str, given: str) -> str | None:
        if len(given) < self.least:
            return f"{key} is empty: give it a value, or leave it out."
        if len(given) > self.most:
            return f"{key}={shortened(given)} has {len(given):,} characters: it takes {self.most:,}."
        if "\0" in given or (not self.lines and len(given.splitlines()) > 1):
            return f"{key}={shortened(given)} has a line end or a null character in it: leave that out."
        return None


PROSE = Text(0, 1_000_000, lines=True)


@dataclass(frozen=True)
class ReadBy:
    """The kinds of model or data that read a field, and the value by which it says nothing."""

    kinds: tuple[str, ...]
    nothing: Any = None
    instead: str = "another model (`--help` lists them)"
    """What to choose to have it read."""


@dataclass(frozen=True)
class Field:
    """A leaf or a group of the schema.

    Attributes:
        key: dotted, such as optim.name.
        types: plain types of its values; for a list also `list`.
        extras: what `Annotated` adds.
        group: the dataclass of a group; its own fields come after it.
    """

    key: str
    types: frozenset[Any]
    extras: tuple[Any, ...]
    group: Any = None

    def extra(self, kind: type) -> Any:
        return next((extra for extra in self.extras if isinstance(extra, kind)), None)

    @property
    def optional(self) -> bool:
        return type(None) in self.types


@cache
def fields_of(schema: type) -> tuple[Field, ...]:
    """Every field of a dataclass, and those of the dataclasses that it holds."""
    return tuple(_fields(schema, ""))


def _fields(schema: Any, prefix: str) -> Iterator[Field]:
    for name, hint in get_type_hints(schema, include_extras=True).items():
        extras: list[Any] = []
        types = frozenset(_leaves(hint, extras))
        group = next((leaf for leaf in types if is_dataclass(leaf)), None)
        yield Field(f"{prefix}{name}", types, tuple(extras), group)
        if group is not None:
            yield from _fields(group, f"{prefix}{name}.")


def _leaves(hint: Any, extras: list[Any]) -> Iterator[Any]:
    """The plain types within a hint; what `Annotated` adds goes to `extras`."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *more = get_args(hint)
        extras.extend(more)
        yield from _leaves(inner, extras)
    elif get_args(hint):
        if isinstance(origin, type) and issubclass(origin, list | dict):
            yield origin
        for part in get_args(hint):
            yield from _leaves(part, extras)
    else:
        yield hint


def check_texts(schema: type, values: Any) -> None:
    """Check every text of a config's `plain_values`.

    Raises:
        ConfigError: the first that is none of its field's choices or out of its bounds.
    """
    for field in fields_of(schema):
        choice = field.extra(Choice)
        if field.group is not None or not (choice or str in field.types):
            continue
        given = value_of(values, field.key)
        rule = choice or field.extra(Text) or Text()
        for one in given if isinstance(given, list) else [] if given is None or isinstance(given, dict) else [given]:
            if (refused := rule.refuse(field.key, str(one))) is not None:
                raise ConfigError(refused)


def check_read(schema: type, config: DictConfig) -> None:
    """Check that what is set is read by the model and the data that are chosen.

    Raises:
        ConfigError: the first that is not.
    """
    for field in fields_of(schema):
        group, _, name = field.key.partition(".")
        rule = field.extra(ReadBy)
        if rule is None:
            continue
        kind, given = str(config[group][KINDS[group]]), config[group][name]
        if kind in rule.kinds or given == rule.nothing:
            continue
        shown = f"={shortened(str(given))}" if isinstance(given, str) else ""
        of_kind = f" ({kind})" if group == "model" else ""
        raise ConfigError(
            f"{field.key}{shown} is unused with {group}={config[group].name}{of_kind}: leave it out, or choose {rule.instead}."
        )


def plain_values(config: DictConfig) -> Any:
    """The config as dicts and lists, resolved: a look into them costs a hundredth of one into the config."""
    return OmegaConf.to_container(config, resolve=True, enum_to_str=True)


def value_of(config: Any, key: str) -> Any:
    """The value of a dotted key; None where a part of the config on the way to it is null."""
    node: Any = config
    for part in key.split("."):
        if node is None:
            return None
        node = node[part]
    return node


def shortened(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:60]}..."

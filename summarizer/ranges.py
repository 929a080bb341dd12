"""Ranges of numbers: `Annotated[float, Range(0, 1)]` on a field of the schema is the one description of what it may be."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig

from summarizer.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included unless said otherwise. NaN and infinity are in no range.

    Attributes:
        above: `least` itself is too small.
        below: `most` itself is too large.
        also: one more value, outside the bounds, that has a meaning of its own.
        items: how many numbers a list must have.
    """

    least: float
    most: float
    above: bool = False
    below: bool = False
    also: float | None = None
    items: int | None = None

    def holds(self, number: float) -> bool:
        if not math.isfinite(number):
            return False
        if self.also is not None and number == self.also:
            return True
        enough = number > self.least if self.above else number >= self.least
        return enough and (number < self.most if self.below else number <= self.most)

    def __str__(self) -> str:
        least = f"{'above' if self.above else 'at least'} {plain(self.least)}"
        return f"{least} and {'below' if self.below else 'at most'} {plain(self.most)}"


def plain(number: float) -> str:
    """The number as people write it: 4294967295, 0.5, 1e+12."""
    return f"{int(number):d}" if number == int(number) and abs(number) < 1e10 else f"{number:g}"


@dataclass(frozen=True)
class Number:
    """A numeric field of the schema.

    Attributes:
        key: dotted, such as optim.lr.
        range: None where the schema gives none (a test refuses that).
        optional: null is a value.
        listed: a list of such numbers.
    """

    key: str
    range: Range | None
    optional: bool
    listed: bool


def numbers_of(schema: Any, prefix: str = "") -> Iterator[Number]:
    """Every numeric field of a dataclass and of the dataclasses it holds."""
    for name, hint in get_type_hints(schema, include_extras=True).items():
        found: list[Any] = []
        leaves: set[Any] = set(_leaves(hint, found))
        if nested := [leaf for leaf in leaves if is_dataclass(leaf)]:
            yield from numbers_of(nested[0], f"{prefix}{name}.")
        elif leaves & {int, float}:
            ranges = [extra for extra in found if isinstance(extra, Range)]
            yield Number(f"{prefix}{name}", ranges[0] if ranges else None, type(None) in leaves, list in leaves)


def _leaves(hint: Any, extras: list[Any]) -> Iterator[Any]:
    """The plain types within a hint; what `Annotated` adds goes to `extras`."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *more = get_args(hint)
        extras.extend(more)
        yield from _leaves(inner, extras)
    elif origin in (Union, types.UnionType):
        for part in get_args(hint):
            yield from _leaves(part, extras)
    elif origin is list:
        yield list
        for part in get_args(hint):
            yield from _leaves(part, extras)
    else:
        yield hint


def check_numbers(schema: type, config: DictConfig) -> None:
    """Check every number of a composed config.

    Raises:
        ConfigError: the first one outside its range, with the key and the range.
    """
    for number in numbers_of(schema):
        given = _given(config, number.key)
        if given is None or number.range is None:
            continue
        values = list(given) if number.listed else [given]
        if number.range.items not in (None, len(values)):
            raise ConfigError(
                f"{number.key}={values} has {len(values)} numbers; it takes {number.range.items}, each {number.range}."
            )
        for value in values:
            if not number.range.holds(value):
                also = f", or {plain(number.range.also)}" if number.range.also is not None else ""
                null = ", or null" if number.optional else ""
                each = "each number must be" if number.listed else "it must be"
                raise ConfigError(f"{number.key}={given} is out of range: {each} {number.range}{also}{null}.")


def _given(config: DictConfig, key: str) -> Any:
    """The value of a key; None where a part of the config on the way to it is null."""
    node: Any = config
    for part in key.split("."):
        if node is None:
            return None
        node = node[part]
    return node

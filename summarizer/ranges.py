"""Ranges of numbers: `Annotated[float, Range(0, 1)]` on a field of the schema is the one description of what it may be."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from summarizer.errors import ConfigError
from summarizer.fields import fields_of, value_of


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


def numbers_of(schema: Any) -> Iterator[Number]:
    """Every numeric field of a dataclass and of the dataclasses it holds."""
    for field in fields_of(schema):
        if field.group is None and field.types & {int, float}:
            yield Number(field.key, field.extra(Range), field.optional, list in field.types)


def check_numbers(schema: type, values: Any) -> None:
    """Check every number of a config's `plain_values`.

    Raises:
        ConfigError: the first one outside its range, with the key and the range.
    """
    for number in numbers_of(schema):
        given = value_of(values, number.key)
        if given is None or number.range is None:
            continue
        numbers = list(given) if number.listed else [given]
        if number.range.items not in (None, len(numbers)):
            raise ConfigError(
                f"{number.key}={numbers} has {len(numbers)} numbers; it takes {number.range.items}, each {number.range}."
            )
        for value in numbers:
            if not number.range.holds(value):
                also = f", or {plain(number.range.also)}" if number.range.also is not None else ""
                null = ", or null" if number.optional else ""
                each = "each number must be" if number.listed else "it must be"
                raise ConfigError(f"{number.key}={given} is out of range: {each} {number.range}{also}{null}.")

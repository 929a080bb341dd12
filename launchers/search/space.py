"""The search space of a sweep, in Hydra's own override grammar: lists, choice, range, glob, interval, tag(log, ...)."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.errors import HydraException

from launchers.errors import MendInput

DIGITS = 4
"""Significant digits of a drawn number: what a person can read, type, and compare."""


@dataclass(frozen=True)
class Choice:
    """A dimension of listed values, each as it stands in an override."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """A dimension of numbers between two ends, both included."""

    key: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def text(self, value: float) -> str:
        """The number as an override has it, with few digits and still inside."""
        if self.whole:
            return str(int(value))
        rounded = float(f"{value:.{DIGITS}g}")
        return repr(min(max(rounded, self.low), self.high))


Dimension = Choice | Interval


@dataclass(frozen=True)
class Space:
    """What is fixed, and what is swept; a point is one value of each dimension."""

    fixed: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    order: tuple[str, ...]
    """Keys as they were named, fixed ones too: a group option must stand before what overrides it."""

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(dimension.key for dimension in self.dimensions)

    def overrides(self, point: Mapping[str, str]) -> tuple[str, ...]:
        """The overrides of a job at this point."""
        fixed = dict(zip((key for key in self.order if key not in self.keys), self.fixed, strict=True))
        return tuple(f"{key}={point[key]}" if key in point else fixed[key] for key in self.order)

    def grid(self) -> Iterator[dict[str, str]]:
        """Every combination, the last dimension fastest.

        Raises:
            MendInput: a dimension without end.
        """
        for dimension in self.dimensions:
            if isinstance(dimension, Interval):
                raise MendInput(
                    f"A grid needs a list of values for {dimension.key}, not an interval: write {dimension.key}="
                    f"{dimension.text(dimension.low)},{dimension.text(dimension.high)}, or search it with hydra.sweeper.sampler=tpe."
                )
        listed = [dimension.values for dimension in self.dimensions if isinstance(dimension, Choice)]
        for values in itertools.product(*listed):
            yield dict(zip(self.keys, values, strict=True))

    def probes(self) -> list[dict[str, str]]:
        """Points that show whether every value composes: each end and each listed value once."""
        ends = [
            d.values if isinstance(d, Choice) else (d.text(d.low), d.text(d.high)) for d in self.dimensions
        ]  # fmt: skip
        longest = max(map(len, ends), default=1)
        return [
            {key: values[min(i, len(values) - 1)] for key, values in zip(self.keys, ends, strict=True)}
            for i in range(longest)
        ]


def read_space(params: Mapping[str, str], arguments: Sequence[str], loader: ConfigLoader | None = None) -> Space:
    """The space of `params` (of the config) and `arguments` (of the command line, which wins).

    Raises:
        MendInput: a list without values, an interval without a width, or not Hydra's grammar.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed: list[Override] = []
    for key, value in params.items():
        try:
            parsed.append(parser.parse_override(f"{key}={value}"))
        except HydraException as error:
            first = str(error).splitlines()[0]
            raise MendInput(f"The values of {key} can't be read: {value!r} ({first}).") from None
    parsed += parser.parse_overrides(list(arguments))
    latest: dict[str, Override] = {}
    for override in parsed:
        key = override.get_key_element()
        latest.pop(key, None) if key in latest and key not in params else None
        latest[key] = override
    fixed, dimensions = [], []
    for key, override in latest.items():
        if override.is_sweep_override():
            dimensions.append(_dimension(key, override))
        else:
            fixed.append(f"{key}={override.get_value_element_as_str()}" if not _deletes(override) else key)
    return Space(tuple(fixed), tuple(dimensions), tuple(latest))


def plain(text: str | None) -> Any:
    """A number of an override as a number; other text without its quotes."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text.strip("'\"")


def _deletes(override: Override) -> bool:
    return override.is_delete() and override.value() is None


def _dimension(key: str, override: Override) -> Dimension:
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None
        assert high is not None
        log = "log" in value.tags
        whole = isinstance(low, int) and isinstance(high, int)
        if not (math.isfinite(low) and math.isfinite(high)) or not low < high:
            raise MendInput(f"{key}: interval({low},{high}) must go from a number to a higher one.")
        if log and low <= 0:
            raise MendInput(f"{key}: a log interval must start above 0, not at {low}.")
        return Interval(key, low, high, log, whole)
    values = tuple(override.sweep_string_iterator())
    if not values:
        raise MendInput(f"{key} names no values: there is nothing to sweep.")
    twice = next((v for v in values if values.count(v) > 1), None)
    if twice is not None:
        raise MendInput(f"{key} names {twice} twice: two jobs would be the same.")
    return Choice(key, values)

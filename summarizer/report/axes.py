"""Scales of a chart: values to pixels, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map of [low, high] to [start, end] pixels."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values inside the range: 3 to 7 of them."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for mantissas in ((1,), (1, 2, 5)):
                ticks = [float(f"{m}e{d}") for d in decades for m in mantissas]
                inside = [tick for tick in ticks if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
                if len(inside) > 2:
                    return inside
            return inside if len(inside) > 1 else [self.low, self.high]
        span = self.high - self.low
        rough = span / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]

    @property
    def labeled(self) -> list[tuple[float, str]]:
        """Ticks with labels that tell neighbors apart."""
        ticks = self.ticks
        if self.log or len(ticks) < 2:
            return [(tick, number(tick)) for tick in ticks]
        step = abs(ticks[1] - ticks[0])
        if max(abs(tick) for tick in ticks) < 1e-2:
            return [(tick, number(tick)) for tick in ticks]
        digits = next((d for d in range(12) if abs(round(step, d) - step) < step * 1e-6), 12)
        return [(tick, f"{tick:,.{digits}f}") for tick in ticks]


def scale_for(values: Sequence[float], start: float, end: float, *, zero: bool = False, log: bool = False) -> Scale:
    """A scale that holds all values with some air; `zero` starts it at 0, `log` needs values above 0."""
    low, high = min(values), max(values)
    if log and low > 0 and high / low > 1.0001:
        return Scale(low, high, start, end, log=True)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-12 * max(1.0, abs(high)):
        air = abs(high) * 0.1 or 1.0
        low, high = low - air, high + air
    else:
        air = (high - low) * 0.05
        low, high = (low if zero and low == 0 else low - air), high + air
    return Scale(low, high, start, end)


def spans_decades(values: Sequence[float]) -> bool:
    """Whether a logarithmic scale reads better: all above 0, and the largest at least 10 times the smallest."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= 10


def figure(value: float) -> str:
    """A measured figure, as exact as it is told on the terminal: four significant digits."""
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def number(value: float) -> str:
    """A number for an axis or a table: three or four significant digits, thousands separated."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    if size >= 0.01:
        return f"{value:.3g}"
    return f"{value:.1e}".replace("e-0", "e-")

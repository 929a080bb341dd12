"""Figures as people read them: money, time, sizes, short ids."""

from __future__ import annotations

import re
import time

_LAUNCH = re.compile(r"\d{8}-\d{6}-([0-9a-f]{4,})(-\S+)?")
_UNITS = (("s", 1.0, 90.0), ("min", 60.0, 3600.0), ("h", 3600.0, 48 * 3600.0))
"""Of time: name, seconds, and up to how many seconds it is used."""


def duration(seconds: float) -> str:
    """`45 s`, `4.3 min`, `2 h`, `3.1 days`."""
    unit, length = next(((unit, length) for unit, length, most in _UNITS if seconds < most), ("days", 86400.0))
    value = seconds / length
    return f"{value:.0f} {unit}" if unit == "s" or value >= 10 else f"{value:.1f}".removesuffix(".0") + f" {unit}"


def dollars(amount: float, sign: str = "") -> str:
    """Two decimals; more where a small amount needs them."""
    if 0 < abs(amount) < 0.0005:
        return f"<{sign}0.001"
    return f"{sign}{amount:.2f}" if abs(amount) >= 0.1 or amount == 0 else f"{sign}{amount:.3f}"


def since(moment: float, now: float) -> str:
    """`4.3 min ago`; of another day, the date."""
    return (
        f"{duration(max(now - moment, 0))} ago"
        if now - moment < 86400
        else time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))
    )


def size(count: float) -> str:
    """Bytes."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count:.0f} bytes"


def short_id(name: str) -> str:
    """The part of a job's or launch's id that people type: `20261123-154210-e725-0` -> `e725-0`."""
    found = _LAUNCH.fullmatch(name)
    return f"{found[1]}{found[2] or ''}" if found else name


def short_label(label: str) -> str:
    """A machine by its launch and number: `launchers-0a1b2c-20261123-154210-e725-0` -> `e725 #0`."""
    found = re.fullmatch(r"launchers-[0-9a-f]+-\d{8}-\d{6}-([0-9a-f]{4,})-(\d+)", label)
    return f"{found[1]} #{found[2]}" if found else label


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 offer`, `2 offers`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"

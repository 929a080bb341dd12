"""Untrusted text (of a machine, a provider, a job's log) made safe to print: terminals act on control characters."""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""C0 and C1 controls except tab and line break, direction overrides, and lone surrogates."""
_COLOR = re.compile("(\x1b\\[[0-9;:]{0,64}m)")
_RESET = "\x1b[0m"


def shown(text: str, lines: bool = True) -> str:
    """`text` with control characters as visible escapes.

    Args:
        lines: keep line breaks. Without them, untrusted text cannot imitate a line of this tool.
    """
    safe = _CONTROLS.sub(_escaped, text)
    return safe if lines else safe.replace("\n", "\\n")


def shown_log(line: str, colors: bool) -> str:
    """A line of a job's log, with control characters as escapes; colors are kept and reset at its end, or removed."""
    parts = _COLOR.split(line)
    if len(parts) == 1:
        return shown(line)
    if not colors:
        return shown("".join(parts[::2]))
    return "".join(part if number % 2 else shown(part) for number, part in enumerate(parts)) + _RESET


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

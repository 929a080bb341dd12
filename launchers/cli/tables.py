"""Tables for people and JSON for scripts, of the same rows."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from launchers.formats import dollars
from launchers.text import shown

if TYPE_CHECKING:
    from rich.table import Table

LONGEST_CELL = 2000
PIPED_WIDTH = 160
_json_out: TextIO | None = None


@dataclass
class Sheet:
    """Rows with named columns."""

    title: str
    columns: Sequence[str]
    rows: list[dict[str, Any]]
    note: str = ""
    right: frozenset[str] = field(default_factory=frozenset)
    headers: Mapping[str, str] = field(default_factory=dict)
    """What a column is called in the table, where that is not its name."""
    formats: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    """Column -> how the table shows its values; JSON has them as they are."""
    wraps: frozenset[str] = frozenset({"note", "region", "overrides"})
    """Columns of running text, which wrap between words. All others are on one line."""


@contextlib.contextmanager
def json_alone() -> Iterator[None]:
    """While it lasts, stdout gets what `print_json` writes and nothing else: other output goes to stderr."""
    global _json_out
    before, _json_out = _json_out, sys.stdout
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _json_out = before


def json_text(value: Any) -> str:
    """Valid JSON: NaN and infinity, which it does not know, are null."""
    return json.dumps(_finite(value), indent=2, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    return [_finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def print_json(value: Any) -> None:
    print(json_text(value), file=_json_out or sys.stdout, flush=True)


def show(sheet: Sheet, as_json: bool = False) -> None:
    """Print it: JSON holds the plain values, the table their short forms."""
    if as_json:
        print_json(sheet.rows)
        return
    from rich.console import Console

    class TableConsole(Console):
        def on_broken_pipe(self) -> None:
            """Rich's own way is to exit with code 1, as if the command had failed."""
            raise

    console = TableConsole()
    asked = console.width if console.is_terminal or os.environ.get("COLUMNS") else PIPED_WIDTH
    console.width = max(asked, _least_width(sheet))
    console.print(as_rich(sheet))
    if sheet.note:
        print_lines(sheet.note.splitlines())


def as_rich(sheet: Sheet) -> Table:
    """What `show` prints."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    # Text, not markup: much of what stands here are words of a machine, a provider or a job.
    table = Table(
        title=Text(sheet.title, style="table.title") if sheet.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in sheet.columns:
        table.add_column(
            sheet.headers.get(column, column.replace("_", " ")),
            justify="right" if column in sheet.right else "left",
            overflow="fold",
            no_wrap=column not in sheet.wraps,
        )
    for line in _cells(sheet):
        table.add_row(*map(Text, line))
    return table


def _cells(sheet: Sheet) -> list[list[str]]:
    return [[_cell(sheet, column, row.get(column)) for column in sheet.columns] for row in sheet.rows]


def _least_width(sheet: Sheet) -> int:
    """The width at which ids and figures are not cut. A narrower terminal wraps the lines."""
    from rich.cells import cell_len

    width, cells = 0, _cells(sheet)
    for number, column in enumerate(sheet.columns):
        header = sheet.headers.get(column, column)
        texts = (header, *(line[number] for line in cells))
        parts = [word for text in texts for word in text.split()] if column in sheet.wraps else texts
        width += 2 + max(map(cell_len, parts), default=0)
    return width


def print_lines(lines: Sequence[str]) -> None:
    """Text below a table. Lines are neither cut nor wrapped, so that paths and commands can be copied."""
    for line in lines:
        print(shown(line, lines=False), flush=True)


def _cell(sheet: Sheet, column: str, value: Any) -> str:
    if value is None:
        return "-"
    if column in sheet.formats:
        return shown(sheet.formats[column](value), lines=False)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return dollars(value) if column.startswith("$") else f"{value:.4g}"
    text = shown(str(value), lines=False)
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]}..."

"""A page as blocks, and its rendering into one self-contained HTML file.

Jinja2 with autoescape renders every block, so that no text of a run is ever markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A table cell: what is shown, and what it sorts by (the text itself where None)."""

    text: str
    sort: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Code:
    """A command or a file's text."""

    kind: ClassVar[str] = "code"
    text: str
    summary: str | None = None
    """Heading of the fold that hides it; None shows it at once."""


@dataclass(frozen=True)
class Facts:
    """Large figures with a name beneath each."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Columns by name; numeric ones are set to the right, all sort by a press on their head."""

    kind: ClassVar[str] = "table"
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    @property
    def numeric(self) -> list[bool]:
        return [
            bool(self.rows) and all(row[i].sort is not None or row[i].text in ("-", "") for row in self.rows)
            for i in range(len(self.header))
        ]


@dataclass(frozen=True)
class Figure:
    """A chart with its data beneath, folded."""

    kind: ClassVar[str] = "figure"
    chart: Markup
    caption: str
    legend: Sequence[str] = ()
    data: Table | None = None


@dataclass(frozen=True)
class Sample:
    """One document with its reference and what each run wrote: (run, score, [(piece, is new)])."""

    name: str
    document: str
    reference: str
    written: Sequence[tuple[str, str, Sequence[tuple[str, bool]]]]


@dataclass(frozen=True)
class Samples:
    kind: ClassVar[str] = "samples"
    samples: Sequence[Sample]
    title: str = ""


Block = Text | Code | Facts | Table | Figure | Samples


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: Sequence[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    title: str
    subtitle: str
    sections: Sequence[Section]


def render(page: Page) -> str:
    """The page as one HTML document: style and script inside, no address of anything outside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assets = {name: Markup((TEMPLATES / f"page.{name}").read_text()) for name in ("css", "js")}
    return environment.get_template("page.html.j2").render(page=page, **assets)

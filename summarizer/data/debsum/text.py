"""Package descriptions as plain prose: what becomes the document, what the summary.

The markup is that of Debian Policy 5.6.13: a synopsis, then paragraphs indented by one space, verbatim lines by two, and
a lone full stop for an empty line.
"""

from __future__ import annotations

import re

from summarizer.data.overlap import words

URL = re.compile(r"(https?|ftp)://\S+|\bwww\.\S+")
LIST_ITEM = re.compile(r"^\s*([-*+•o·]|\d+[.)])\s+")
LETTER = re.compile(r"[A-Za-z]")
SPACES = re.compile(r"\s+")
EMPTY_BRACKETS = re.compile(r"\(\s*\)|<\s*>")
SPACE_BEFORE_MARK = re.compile(r"\s+([.,;:!?])")

# "This package contains the ..." tells the part of a source, not what the program is
ABOUT_THE_PACKAGE = re.compile(
    r"^(this|the)\s+(\S+\s+){0,3}?(meta-?|dummy |transitional |virtual |binary )?package\s+"
    r"(contains?|provides?|includes?|installs?|ships?|holds?|is|depends|has|builds?|consists)\b",
    re.I,
)
BRACKETED_TAIL = re.compile(r"\s*[\(\[]([^()\[\]]{1,60})[\)\]]\s*$")
PART_OF_A_SOURCE = re.compile(
    r"\b(data|common|documentation|docs?|development|headers?|library|libraries|runtime|shared|static|files?|dev|debug"
    r"|examples?|plugins?|tools?|utilities|binaries|python ?[23]?|module|transitional|metapackage|headless|daemon|client"
    r"|server|backend|frontend|gui|test ?suite|source|profiling|bindings?|version|build|arch\S*|part|package|modules?)\b",
    re.I,
)
DASHED_TAIL = re.compile(
    r"\s+(--?|–|—|:)\s*((architecture\S*\s+)?(data|common|documentation|docs?|development|headers?|library|libraries"
    r"|runtime|shared|static|dev|debug|examples?|plugins?|tools?|utilities|tests?|modules?|source)\b.{0,40})$",
    re.I,
)


def clean_summary(synopsis: str) -> str:
    """The synopsis without the tail that names only the part, such as "(development files)" or "- documentation"."""
    text = " ".join(synopsis.split()).rstrip(".")
    for _ in range(2):
        tail = BRACKETED_TAIL.search(text)
        if tail and PART_OF_A_SOURCE.search(tail.group(1)):
            text = text[: tail.start()].rstrip()
    return DASHED_TAIL.sub("", text).rstrip(" -–—:,;")


def clean_document(description: str) -> str:
    """The long description as one paragraph: no addresses, tables or list markers; items are joined into sentences."""
    cleaned = (_sentence(lines) for lines in _paragraphs(description))
    return SPACE_BEFORE_MARK.sub(r"\1", " ".join(text for text in cleaned if text))


def _paragraphs(description: str) -> list[list[str]]:
    paragraphs: list[list[str]] = [[]]
    for line in description.split("\n"):
        body = line[1:] if line[:1] == " " else line
        if body.strip() in ("", "."):
            paragraphs.append([])
            continue
        lines = paragraphs[-1]
        if LIST_ITEM.match(body):
            if lines and not lines[-1].rstrip().endswith((".", ":", ";", ",", "!", "?")):
                lines[-1] += ";"
            lines.append(LIST_ITEM.sub("", body).strip())
        elif not _is_drawing(body):
            lines.append(body.strip())
    return paragraphs


def _is_drawing(body: str) -> bool:
    """A verbatim line that is mostly no letters: a row of a table, a diagram, a formula."""
    return body.startswith("  ") and len(LETTER.findall(body)) < 0.5 * len(body.strip())


def _sentence(lines: list[str]) -> str:
    """One paragraph as prose that ends in a mark; empty when nothing of it belongs in a document."""
    text = SPACES.sub(" ", URL.sub("", " ".join(lines))).strip()
    text = EMPTY_BRACKETS.sub("", text).strip()
    if not text or ABOUT_THE_PACKAGE.match(text) or len(words(text)) < 4:
        return ""
    return text if text.endswith((".", "!", "?", ":", ";")) else text + "."

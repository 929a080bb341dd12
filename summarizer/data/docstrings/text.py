"""A docstring as plain prose: the first line becomes the summary, the paragraphs of its description the document.

Conventions followed: PEP 257 (a summary line, a blank line, a description), reStructuredText, the sections of Google's and
numpydoc's styles.
"""

from __future__ import annotations

import re

SECTION = re.compile(
    r"^\**(args|arguments|parameters?|params|other parameters|keyword arg\w*|kwargs|inputs?|outputs?|returns?|yields?|raises|receives"
    r"|warns|examples?( usage)?|usage|notes?|see also|references?|attributes|methods|todo|warnings?|shape|properties|fields|options"
    r"|constructor\w*|subcommands|required|optional|example request|static methods|class methods|example::?)\**\s*:{0,2}\**$",
    re.I,
)
UNDERLINE = re.compile(r"^\s*([-=~^*#\"'`])\1{2,}\s*$")
FIELD = re.compile(r"^\s*[:@](param|parameter|arg|type|returns?|rtype|raises?|var|ivar|cvar|keyword|kwarg|throws|meta)\b")
DIRECTIVE = re.compile(r"^\s*\.\. ")
PROMPT = re.compile(r"^\s*(>>>|\.\.\.|\$ |In \[\d+\]|%|#)")
LIST_ITEM = re.compile(r"^\s*([-*+•]|\d+[.)])\s+")
ROLE = re.compile(r":[a-zA-Z:+-]+:`~?(?:[^`<]*<)?([^`>]*?)>?`")
LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`_{0,2}")
MARKDOWN_LINK = re.compile(r"!?\[([^\]]+)\]\([^)]*\)(\{[^}]*\})?")
QUOTED = re.compile(r"`{1,2}~?([^`]+?)`{1,2}_{0,2}")
EMPHASIS = re.compile(r"(?<!\w)(\*\*|__|\*)(?=\S)(.+?)(?<=\S)\1(?!\w)")
URL = re.compile(r"<?\b(https?|ftp)://\S+")
SPACES = re.compile(r"\s+")
CODE_MARKS = re.compile(r"[{}\[\]=|\\<>_$]|::|\w\.\w+\.\w|\(\)")


def split_docstring(text: str) -> tuple[str, str] | None:
    """Summary and document; None where the first line stands not alone, or nothing is said after it.

    The rest of the text is cut at its first section (parameters, returns, examples ...): what follows is about code.
    """
    lines = text.expandtabs().splitlines()
    if len(lines) < 3 or lines[1].strip():
        return None
    summary = plain(lines[0]).rstrip(".").strip()
    document = " ".join(_prose(paragraph) for paragraph in _paragraphs(lines[2:]))
    document = SPACES.sub(" ", document).strip()
    return (summary, document) if summary and document else None


def plain(text: str) -> str:
    """Text without the marks of reStructuredText and Markdown; names of roles are shortened to their last part."""
    text = ROLE.sub(lambda match: match[1].rsplit(".", 1)[-1] if "~" in match[0] else match[1], text)
    for pattern, kept in ((LINK, r"\1"), (MARKDOWN_LINK, r"\1"), (QUOTED, r"\1"), (EMPHASIS, r"\2"), (URL, "")):
        text = pattern.sub(kept, text)
    return SPACES.sub(" ", text).strip()


def looks_like_code(text: str) -> bool:
    """Whether marks of code stand in more than one in twelve words."""
    return len(CODE_MARKS.findall(text)) * 12 > len(text.split())


def _paragraphs(lines: list[str]) -> list[list[str]]:
    """Paragraphs of the description; literal blocks, directives, doctests and everything from the first section on are out."""
    paragraphs: list[list[str]] = [[]]
    literal_indent: int | None = None  # lines deeper than this belong to a literal block or directive
    for number, line in enumerate(lines):
        stripped, indent = line.strip(), len(line) - len(line.lstrip())
        following = lines[number + 1] if number + 1 < len(lines) else ""
        if literal_indent is not None and (not stripped or indent > literal_indent):
            continue
        literal_indent = None
        if not stripped:
            paragraphs.append([])
        elif SECTION.match(stripped) or FIELD.match(line) or (UNDERLINE.match(following) and stripped):
            break
        elif stripped.startswith("```"):
            break
        elif DIRECTIVE.match(line):
            literal_indent = indent
            paragraphs.append([])
        elif PROMPT.match(line) or (indent >= 4 and not paragraphs[-1]):
            paragraphs.append([])
        else:
            if LIST_ITEM.match(line):
                if paragraphs[-1] and paragraphs[-1][-1][-1] not in ".:;,!?":
                    paragraphs[-1][-1] += ";"
                stripped = LIST_ITEM.sub("", line).strip()
                if not stripped:
                    continue
            paragraphs[-1].append(stripped)
            if stripped.endswith("::"):
                literal_indent = indent
                paragraphs.append([])
    return [paragraph for paragraph in paragraphs if paragraph]


def _prose(lines: list[str]) -> str:
    """One paragraph as prose that ends in a mark; empty when it is mostly code or a table."""
    text = plain(" ".join(lines)).replace("::", ":")
    if len(text.split()) < 4 or looks_like_code(text):
        return ""
    return text if text[-1] in ".!?:;" else text + "."

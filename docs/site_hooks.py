"""What the site does to a page: links to files beside docs/ become the names of those files, since the site does not hold them."""

from __future__ import annotations

import re
from typing import Any

OUTSIDE = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<path>[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return OUTSIDE.sub(lambda match: _named(match["text"], match["path"]), markdown)


def _named(text: str, path: str) -> str:
    return text if path in text else f"{text} (`{path}`)"

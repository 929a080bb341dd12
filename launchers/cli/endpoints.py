"""`--api-url`: the address of each provider, so that a rehearsal can use several emulators at once."""

from __future__ import annotations

from collections.abc import Sequence

from launchers.registry import names


def url_for(given: Sequence[str], provider: str) -> str | None:
    """The address for a provider, from `URL` (for all) and `NAME=URL` (for one); None is the provider's own address."""
    own: list[str | None] = []
    for text in given:
        name, separator, url = text.partition("=")
        if separator and name in names():
            own.append(url if name == provider else None)
        else:
            own.append(text)
    return next((url for url in reversed(own) if url), None)

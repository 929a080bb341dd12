"""The settings of `provider=auto`: those that all providers share, and under `of` what each of them has of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from launchers.settings import POSITIVE, RentalSettings, bounded


@dataclass
class AutoSettings(RentalSettings):
    """All settings of `provider=auto`."""

    image: str = ""
    """Stands with each provider, under `of`."""
    of: dict[str, Any] = field(default_factory=dict)
    """Provider -> its own settings, which go before the shared ones: +provider.of.vast.region=DE."""
    providers: list[str] | None = None
    """Those that may be rented at; null: all under `of` whose key is here."""
    deadline_hours: float | None = bounded(None, POSITIVE, 10_000)
    """Hours from the start of the launch in which a job should be done: offers where it is expected later are left out."""

"""The settings of JarvisLabs, which has none of its own."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.settings import RentalSettings


@dataclass
class JarvisSettings(RentalSettings):
    """All settings of `provider=jarvis`; `image` names one of its templates."""

"""The settings that only Vast.ai has."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.settings import POSITIVE, RentalSettings, bounded


@dataclass
class VastSettings(RentalSettings):
    """All settings of `provider=vast`."""

    min_reliability: float = bounded(0.95, 0, 1)
    """Vast's own record of the host, 0 to 1."""
    min_cuda: float | None = bounded(None, 0, 1000)
    """CUDA version that the host's driver must support; null: any."""
    bid_factor: float = bounded(1.15, POSITIVE, 100)
    """A spot bid is the current floor times this, never above max_price."""

    @property
    def cuda(self) -> float | None:
        return self.min_cuda

"""The settings that only RunPod has."""

from __future__ import annotations

from dataclasses import dataclass

from launchers.settings import RentalSettings, bounded

CLOUDS = ("secure", "community")


@dataclass
class RunpodSettings(RentalSettings):
    """All settings of `provider=runpod`; `region` is a data center or the beginning of several, such as EU-RO-1 or US-."""

    cloud: str = "secure"
    """secure: RunPod's own data centers; community: machines of others, cheaper, not all reachable by ssh; any: both."""
    min_cuda: float | None = bounded(None, 0, 1000)
    """CUDA version that the host's driver must support; null: any."""

    @property
    def cuda(self) -> float | None:
        return self.min_cuda

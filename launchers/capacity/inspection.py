"""Check of a machine against its offer."""

from __future__ import annotations

from launchers.errors import BadMachine
from launchers.gpus import find_card
from launchers.host import Probe
from launchers.settings import RentalSettings

MIN_SHM_MB = 64
_DRIVER_FOR_CUDA = ((12.8, 570), (12.4, 550), (12.1, 530), (11.8, 520))


def check_machine(probe: Probe, settings: RentalSettings) -> None:
    """
    Raises:
        BadMachine: the machine is not what was offered.
    """
    if probe.disk_free_gb < settings.min_disk_gb:
        raise BadMachine(
            f"it has {probe.disk_free_gb:.0f} GB free, less than provider.min_disk_gb {settings.min_disk_gb}"
        )
    if not settings.check_gpu or not settings.gpu:
        return
    if probe.shm_free_mb < MIN_SHM_MB:
        raise BadMachine(
            f"its shared memory has {probe.shm_free_mb:.0f} MB, less than data loaders need ({MIN_SHM_MB})"
        )
    cards = probe.cards
    if not cards:
        raise BadMachine("nvidia-smi finds no GPU on it")
    wanted = find_card(settings.gpu)
    if len(cards) < settings.num_gpus:
        raise BadMachine(f"it has {len(cards)} GPUs, but the offer was {settings.num_gpus}")
    card = cards[0]
    plain = wanted.name.replace(" 80GB", "").replace("RTX ", "").lower()
    if (
        plain.replace(" ", "") not in card.name.lower().replace(" ", "")
        or card.memory_mib / 1024 < wanted.memory_gib - 1
    ):
        raise BadMachine(f"its GPU is {card.name} with {card.memory_mib:.0f} MiB, but the offer was {wanted.name}")
    needed = next((d for cuda, d in _DRIVER_FOR_CUDA if (settings.cuda or 0) >= cuda), 0)
    if card.driver and card.driver_branch < needed:
        raise BadMachine(f"its driver {card.driver} is too old for CUDA {settings.cuda} (needs {needed})")

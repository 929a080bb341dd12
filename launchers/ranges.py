"""What every number of a rental's settings may be: NaN and infinity are no caps, and a slip of the keyboard costs nothing."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from launchers.errors import MendInput
from launchers.gpus import find_card
from launchers.settings import POSITIVE, RentalSettings, Timing

_WEEK_S = 7 * 86400.0
RANGES: dict[str, tuple[float, float]] = {
    "max_price": (POSITIVE, 1000), "max_cost": (POSITIVE, 100_000), "max_total_cost": (POSITIVE, 1_000_000),
    "max_hours": (POSITIVE, 2000), "num_gpus": (1, 64), "nodes": (1, 10_000), "machines": (1, 1000), "max_restarts": (0, 1000),
    "sync_every_s": (POSITIVE, 86400), "disk_gb": (1, 100_000), "min_disk_gb": (0, 100_000),
    "min_gpu_memory_gib": (0, 10_000), "min_download_mbps": (0, 1_000_000), "max_carry_mb": (0, 1_000_000),
    "expected_download_gb": (0, 100_000), "expected_results_gb": (0, 100_000), "max_snapshot_mb": (0, 1_000_000),
    "max_attempts": (1, 1000), "max_results_gb": (POSITIVE, 1_000_000), "max_log_mb": (POSITIVE, 1_000_000),
}  # fmt: skip
"""Key -> lowest and highest value; a provider's own settings bring theirs."""
_OTHER = (0.0, _WEEK_S)
"""The rest are seconds and counts: none is negative, and nobody waits for more than a week."""


def check_settings(settings: RentalSettings, timing: Timing) -> None:
    """Refuse what can't be meant.

    Raises:
        MendInput.
    """
    if settings.gpu:
        find_card(settings.gpu)
    _check_numbers("provider", settings)
    _check_numbers("hydra.launcher.timing", timing)
    if settings.disk_gb < settings.min_disk_gb:
        raise MendInput(
            f"provider.disk_gb {settings.disk_gb} is less than provider.min_disk_gb {settings.min_disk_gb}: "
            "rent a larger disk, it cannot grow later."
        )
    if not settings.remote_root.startswith("/") or settings.remote_root.rstrip("/") in ("", "/root", "/home", "/tmp"):
        raise MendInput(f"provider.remote_root {settings.remote_root!r} must be an absolute folder of our own.")


def _check_numbers(where: str, settings: Any) -> None:
    for field in fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        low, high = field.metadata.get("range") or RANGES.get(field.name, _OTHER)
        name = f"{where}.{field.name}"
        if not math.isfinite(value):
            raise MendInput(f"{name} is {value}, which is no number to compare with: give one of at most {high:g}.")
        if value < low:
            limit = "above 0" if low == POSITIVE else f"at least {low:g}"
            raise MendInput(f"{name} is {value}: it must be {limit}.")
        if value > high:
            raise MendInput(f"{name} is {value}: it must be at most {high:g}.")

"""Settings, deadlines and a working tree for launches on a fake market: everything fits, and time is short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launchers.settings import RentalSettings, Timing
from launchers.snapshot import Snapshot

TIMING = Timing(
    boot=40, ssh=15, setup=60, poll=4, status=2, unreachable=20, idle=40, grace=6, fetch=30, second_interrupt=5, retry_first=1,
    retry_total=15, max_attempts=4,
)  # fmt: skip
SNAPSHOT = Snapshot("0" * 64, (), ".", Path("/nonexistent"))


def fake_settings(**changes: Any) -> RentalSettings:
    """Settings that fit every machine of a fake market."""
    values: dict[str, Any] = {
        "name": "fake", "gpu": "RTX 4090", "num_gpus": 1, "max_price": 1.0, "max_hours": 0.1, "spot": False, "disk_gb": 20,
        "min_gpu_memory_gib": 0.0, "min_disk_gb": 1, "min_download_mbps": 0.0, "image": "image", "remote_root": "/root/launchers",
        "check_gpu": True, "machines": 1, "max_restarts": 1, "sync_every_s": 4.0, "detach": False, "dry_run": False,
        "sync_early": ["checkpoints/*"], "expected_download_gb": 0.0, "max_snapshot_mb": 50.0,
    }  # fmt: skip
    return RentalSettings(**(values | changes))

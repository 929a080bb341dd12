"""How fast training goes and what it wastes: tokens per second, padding, waiting for data, memory."""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback


def memory_gib(device: torch.device) -> float:
    """Peak memory of the device since the start, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


class Throughput(Callback):
    """Logs `train/tokens_per_second` (real tokens, all ranks), `train/non_padding_share`, `train/data_wait_share` and
    `train/memory_gib` every `log_every_n_steps`, and keeps the sums of the whole run.

    Validation and checkpoints are not counted: a window that one falls into is closed before it.
    """

    def __init__(self) -> None:
        self.totals = {"tokens": 0.0, "slots": 0.0, "documents": 0.0, "seconds": 0.0, "data_wait_seconds": 0.0}
        self._window: dict[str, float] = {}
        self._mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open()

    def _open(self) -> None:
        self._window = dict.fromkeys(self.totals, 0.0)
        self._mark = time.perf_counter()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self._window["data_wait_seconds"] += now - self._mark
        self._window["seconds"] += now - self._mark
        self._mark = now

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now = time.perf_counter()
        self._window["seconds"] += now - self._mark
        self._mark = now
        for key in ("tokens", "slots", "documents"):
            self._window[key] += batch[key] * trainer.world_size
        loop = trainer.fit_loop.epoch_loop
        if trainer.global_step % trainer.log_every_n_steps == 0 and not loop._should_accumulate():
            self._close(trainer, pl_module)

    def _close(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        window = self._window
        for key, amount in window.items():
            self.totals[key] += amount
        if window["seconds"] > 0:
            values = {
                "train/tokens_per_second": window["tokens"] / window["seconds"],
                "train/non_padding_share": window["tokens"] / max(window["slots"], 1),
                "train/data_wait_share": window["data_wait_seconds"] / window["seconds"],
                "train/memory_gib": memory_gib(pl_module.device),
            }
            pl_module.log_dict(values, rank_zero_only=True)
            pl_module.log("tokens/s", values["train/tokens_per_second"], prog_bar=True, logger=False, rank_zero_only=True)
        self._open()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for key, amount in self._window.items():
            self.totals[key] += amount

    def summary(self) -> dict[str, float]:
        """The run's means, for metrics.json; empty when nothing was trained."""
        t = self.totals
        if not t["seconds"]:
            return {}
        return {
            "train/tokens_per_second": t["tokens"] / t["seconds"],
            "train/documents_per_second": t["documents"] / t["seconds"],
            "train/non_padding_share": t["tokens"] / max(t["slots"], 1),
            "train/data_wait_share": t["data_wait_seconds"] / t["seconds"],
        }

    def state_dict(self) -> dict[str, Any]:
        return {"totals": dict(self.totals)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.totals = dict(state_dict["totals"])

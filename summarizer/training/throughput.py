"""How fast training goes and what it wastes: tokens per second, padding, waiting for data, memory."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import psutil
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from summarizer import metric_names
from summarizer.training.undeclared import log_interval


def memory_gib(device: torch.device) -> float:
    """Peak memory of the device since the start, of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


class Throughput(Callback):
    """Logs `train/tokens_per_second` (real tokens, all ranks), `train/non_padding_share`, `train/data_wait_share`,
    `train/memory_gib` and, where it is known, `train/mfu` every `log_every_n_steps`, and keeps the sums of the whole run.

    Validation and checkpoints are not counted: a window that one falls into is closed before it.

    Args:
        arithmetic: [5] operations of training by a batch's `length_sums` (`training_arithmetic`); None: not known.
        peak: operations a second that the devices could do together; None: not known. MFU is the share of it that is done.
    """

    def __init__(self, arithmetic: np.ndarray | None = None, peak: float | None = None) -> None:
        names = ("tokens", "slots", "documents", "seconds", "data_wait_seconds", "operations")
        self.totals = dict.fromkeys(names, 0.0)
        self._arithmetic, self._peak = arithmetic, peak
        self._window: dict[str, float] = {}
        self._mark = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._open()

    def _open(self) -> None:
        self._window = dict.fromkeys(self.totals, 0.0)
        self._mark = time.perf_counter()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._window["data_wait_seconds"] += now - self._mark
        self._window["seconds"] += now - self._mark
        self._mark = now

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.perf_counter()
        self._window["seconds"] += now - self._mark
        self._mark = now
        for key in ("tokens", "slots", "documents"):
            self._window[key] += batch[key] * trainer.world_size
        if self._arithmetic is not None:
            self._window["operations"] += float(self._arithmetic @ batch["length_sums"]) * trainer.world_size
        loop = trainer.fit_loop.epoch_loop
        if trainer.global_step % log_interval(trainer) == 0 and not loop._should_accumulate():
            self._close(trainer, pl_module)

    def _close(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        window = self._window
        for key, amount in window.items():
            self.totals[key] += amount
        if window["seconds"] > 0:
            values = {**self._rates(window), metric_names.MEMORY_GIB: memory_gib(pl_module.device)}
            pl_module.log_dict(values, rank_zero_only=True)
            pl_module.log(
                "tokens/s", values[metric_names.TOKENS_PER_SECOND], prog_bar=True, logger=False, rank_zero_only=True
            )
        self._open()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for key, amount in self._window.items():
            self.totals[key] += amount

    def summary(self) -> dict[str, float]:
        """The run's means, for metrics.json; empty when nothing was trained."""
        return self._rates(self.totals) if self.totals["seconds"] else {}

    def _rates(self, sums: dict[str, float]) -> dict[str, float]:
        seconds = sums["seconds"]
        rates = {
            metric_names.TOKENS_PER_SECOND: sums["tokens"] / seconds,
            metric_names.DOCUMENTS_PER_SECOND: sums["documents"] / seconds,
            metric_names.NON_PADDING_SHARE: sums["tokens"] / max(sums["slots"], 1),
            metric_names.DATA_WAIT_SHARE: sums["data_wait_seconds"] / seconds,
        }
        if self._peak and sums["operations"]:
            rates[metric_names.SHARE_OF_PEAK] = sums["operations"] / seconds / self._peak
        return rates

    def state_dict(self) -> dict[str, Any]:
        # with the open window: a checkpoint may fall between two logged steps
        return {"totals": {key: amount + self._window.get(key, 0.0) for key, amount in self.totals.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.totals = {**self.totals, **state_dict["totals"]}

"""Progress of training: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, RichProgressBar

LINE_EVERY_SECONDS = 10.0


class ProgressLines(Callback):
    """`step 200/3000  loss 3.21  9,800 tokens/s  5 min left`, at most every ten seconds, for logs and pipes."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._started = self._last = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        now, step = time.monotonic(), trainer.global_step
        done = step - self._first_step
        if not trainer.is_global_zero or not done or (now - self._last < LINE_EVERY_SECONDS and step < self.total_steps):
            return
        self._last = now
        metrics = trainer.callback_metrics
        parts = [f"step {step}/{self.total_steps}"]
        if "train/loss" in metrics:
            parts.append(f"loss {float(metrics['train/loss']):.3f}")
        if "tokens/s" in metrics:
            parts.append(f"{float(metrics['tokens/s']):,.0f} tokens/s")
        left = (self.total_steps - step) * (now - self._started) / done
        parts.append(f"{left / 60:.1f} min left")
        print("  ".join(parts), flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
        print(f"validation at step {trainer.global_step}: " + "  ".join(f"{k[11:]} {v:.3f}" for k, v in shown.items()), flush=True)


def progress_callbacks(total_steps: int, wanted: bool) -> list[Callback]:
    """What fits the place we run in; nothing when the user wants none."""
    if not wanted:
        return []
    return [RichProgressBar(leave=True)] if sys.stdout.isatty() else [ProgressLines(total_steps)]

"""Values that a job reports while it trains: one line of reports.jsonl per validation, for whoever decides how long it runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

FILE = "reports.jsonl"


class ReportedObjective(Callback):
    """Appends `{"step": ..., "value": ...}` of the sweep's metric at each validation after the warm-up and before the last.

    A rate that still rises says nothing of how good a job will be, and a job that has trained to its end is not stopped: what is
    not reported can't be pruned for.
    """

    def __init__(self, folder: Path, metric: str, warmup_steps: int) -> None:
        self.file, self.metric, self.warmup_steps = folder / FILE, metric, warmup_steps

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not self.warmup_steps < trainer.global_step < trainer.max_steps:
            return
        value = trainer.callback_metrics.get(self.metric)
        if value is None or not math.isfinite(float(value)):
            return
        with self.file.open("a") as reports:
            reports.write(json.dumps({"step": trainer.global_step, "value": float(value)}) + "\n")

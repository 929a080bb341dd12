"""Progress of training: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from summarizer.stages import Stage, Stages

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 10.0
FACTS_EVERY_SECONDS = 0.5  # reading a loss waits for the device to have computed it


class ProgressLines(Callback):
    """`step 200/3000  loss 3.21  9,800 tokens/s  5 min left`, at most every ten seconds, for logs and pipes."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._started = self._last = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        done = step - self._first_step
        if (
            not trainer.is_global_zero
            or not done
            or (now - self._last < LINE_EVERY_SECONDS and step < self.total_steps)
        ):
            return
        self._last = now
        parts = [f"step {step}/{self.total_steps}", *training_facts(trainer)]
        left = (self.total_steps - step) * (now - self._started) / done
        parts.append(f"{left / 60:.1f} min left")
        print("  ".join(parts), flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        print(validation_line(trainer), flush=True)


class ProgressBar(Callback):
    """One bar over the optimizer steps of the whole run, with loss, tokens/s and the time that is left; validations as lines.

    Lightning's own bar counts epochs and forward passes, of which a run here has one long list.
    """

    def __init__(self, total_steps: int) -> None:
        columns = (
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self.bar = Progress(*columns)
        self.total_steps = total_steps
        self.task: TaskID | None = None
        self._read = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.task = self.bar.add_task("", total=self.total_steps, completed=trainer.global_step, facts="")
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.task is None:
            return
        self.bar.update(self.task, completed=trainer.global_step)
        if time.monotonic() - self._read >= FACTS_EVERY_SECONDS:
            self._read = time.monotonic()
            self.bar.update(self.task, facts="  ".join(training_facts(trainer)))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.task is not None:
            self.bar.print(validation_line(trainer))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.bar.stop()


class StageMarks(Callback):
    """Writes down when a training compiles, trains and validates, each with what it ends in: checkpoints count.

    Args:
        compiles: whether layers are compiled: that is what most of the first optimizer step then goes into.
    """

    def __init__(self, stages: Stages, *, compiles: bool) -> None:
        self.stages, self.compiles = stages, compiles
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first_step = trainer.global_step
        if self.compiles:
            log.info("Compiling the model's layers: the first step can take some minutes.")
        self.stages.enter(Stage.compiling if self.compiles else Stage.training)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.stages.current is Stage.compiling and trainer.global_step > self._first_step:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            self.stages.enter(Stage.training)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stages.enter(Stage.validation)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stages.enter(Stage.training)


def training_facts(trainer: pl.Trainer) -> list[str]:
    """Loss and speed of the last step, as far as they are known."""
    metrics = trainer.callback_metrics
    facts = []
    if "train/loss" in metrics:
        facts.append(f"loss {float(metrics['train/loss']):.3f}")
    if "tokens/s" in metrics:
        facts.append(f"{float(metrics['tokens/s']):,.0f} tokens/s")
    return facts


def validation_line(trainer: pl.Trainer) -> str:
    shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("validation/")}
    return f"validation at step {trainer.global_step}: " + "  ".join(f"{k[11:]} {v:.3f}" for k, v in shown.items())


def progress_callbacks(total_steps: int, wanted: bool) -> list[Callback]:
    """What fits the place we run in; nothing when the user wants none."""
    if not wanted:
        return []
    return [ProgressBar(total_steps)] if sys.stdout.isatty() else [ProgressLines(total_steps)]

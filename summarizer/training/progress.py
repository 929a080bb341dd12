"""Progress of training: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
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
)

from summarizer.metric_names import LOSS, VALIDATION
from summarizer.stages import Stage, Stages

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 10.0
FACTS_EVERY_SECONDS = 0.5  # reading a loss waits for the device to have computed it


class TrainingClock:
    """Time that training itself takes: validations stand still on it, and are counted at their own mean length."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.first_step = 0
        self._began = self._paused = self._validated = 0.0
        self._validations: list[int] = []

    def start(self, step: int) -> None:
        self._began, self.first_step = self._now(), step

    def pause(self) -> None:
        """A validation begins."""
        self._paused = self._now()

    def resume(self, step: int) -> None:
        """It has ended."""
        self._validated += self._now() - self._paused
        self._validations.append(step)

    def left(self, step: int, total: int) -> float:
        """Seconds to the last step; the validations that are still to come included, once one has shown what it takes."""
        trained = self._now() - self._began - self._validated
        seconds = (total - step) * trained / max(step - self.first_step, 1)
        count = len(self._validations)
        if count and (last := self._validations[-1] - self.first_step) > 0:
            to_come = (total - step) * count / last
            seconds += round(to_come) * self._validated / count
        return seconds


class ProgressLines(Callback):
    """`step 200/3000  loss 3.21  9,800 tokens/s  5 min left`, at most every ten seconds, for logs and pipes."""

    def __init__(self, total_steps: int) -> None:
        self.total_steps = total_steps
        self._last = 0.0
        self._clock = TrainingClock()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._last = time.monotonic()
        self._clock.start(trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.pause()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if (
            not trainer.is_global_zero
            or step == self._clock.first_step
            or (now - self._last < LINE_EVERY_SECONDS and step < self.total_steps)
        ):
            return
        self._last = now
        parts = [f"step {step}/{self.total_steps}", *training_facts(trainer)]
        parts.append(f"{self._clock.left(step, self.total_steps) / 60:.1f} min left")
        print("  ".join(parts), flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.resume(trainer.global_step)
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        print(validation_line(trainer), flush=True)


class ProgressBar(Callback):
    """One bar over the optimizer steps of the whole run, with loss, tokens/s and the time that is left; validations as lines.

    Lightning's own bar counts epochs and forward passes, of which a run here has one long list.
    """

    def __init__(self, total_steps: int) -> None:
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(), TextColumn("{task.fields[left]}"),
        )  # fmt: skip
        self.bar = Progress(*columns)
        self.total_steps = total_steps
        self.task: TaskID | None = None
        self.validation: TaskID | None = None
        self._clock = TrainingClock()
        self._read = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self._clock.start(trainer.global_step)
            self.task = self.bar.add_task(
                "training", total=self.total_steps, completed=trainer.global_step, facts="", left=""
            )
            self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.task is None:
            return
        self.bar.update(self.task, completed=trainer.global_step)
        if time.monotonic() - self._read >= FACTS_EVERY_SECONDS:
            self._read = time.monotonic()
            left = self._clock.left(trainer.global_step, self.total_steps)
            self.bar.update(self.task, facts="  ".join(training_facts(trainer)), left=f"{left / 60:.1f} min left")

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.pause()
        if self.task is not None:
            batches = int(sum(trainer.num_val_batches))
            self.validation = self.bar.add_task("validation", total=batches, facts="loss", left="")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        if self.validation is not None:
            is_last = batch_idx + 1 >= sum(trainer.num_val_batches)
            self.bar.update(self.validation, completed=batch_idx + 1, facts="writing summaries" if is_last else "loss")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.resume(trainer.global_step)
        if self.validation is not None:
            self.bar.remove_task(self.validation)
            self.validation = None
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
    if LOSS in metrics:
        facts.append(f"loss {float(metrics[LOSS]):.3f}")
    if "tokens/s" in metrics:
        facts.append(f"{float(metrics['tokens/s']):,.0f} tokens/s")
    return facts


def validation_line(trainer: pl.Trainer) -> str:
    shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k in VALIDATION}
    return f"validation at step {trainer.global_step}: " + "  ".join(f"{k[11:]} {v:.3f}" for k, v in shown.items())


def progress_callbacks(total_steps: int, wanted: bool) -> list[Callback]:
    """What fits the place we run in; nothing when the user wants none."""
    if not wanted:
        return []
    return [ProgressBar(total_steps)] if sys.stdout.isatty() else [ProgressLines(total_steps)]

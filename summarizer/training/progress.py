"""Progress of training: a bar on a terminal, one line now and then elsewhere."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from pathlib import Path
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
from summarizer.training.undeclared import callbacks_of

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 10.0
FIRST_STEPS = 3
"""Of a training, that say nothing about its rate: the first one compiles."""
MEASURED_STEPS = 3
"""Before which there is no rate."""
RECENT_STEPS = 200
FACTS_EVERY_SECONDS = 0.5  # reading a loss waits for the device to have computed it


class TrainingClock:
    """Time that training itself takes, and how much of it is left.

    The rate is that of recent steps. The first ones are left out: they compile, tune and fill caches. Validations stand still on
    this clock, and are counted at their own mean length.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self.first_step = 0
        self._began = self._paused = self._validated = 0.0
        self._validations: list[int] = []
        self._recent: deque[tuple[int, float]] = deque(maxlen=RECENT_STEPS + 1)
        """Steps, each with the time when it had ended."""

    def start(self, step: int) -> None:
        self._began, self.first_step = self._now(), step

    def step(self, step: int) -> None:
        """A batch has ended; several may make a step."""
        if step - self.first_step >= FIRST_STEPS and (not self._recent or step > self._recent[-1][0]):
            self._recent.append((step, self._now() - self._began - self._validated))

    def pause(self) -> None:
        """A validation begins."""
        self._paused = self._now()

    def resume(self, step: int) -> None:
        """It has ended."""
        self._validated += self._now() - self._paused
        self._validations.append(step)

    def left(self, total: int) -> float | None:
        """Seconds to the last step, or None while too few steps were measured.

        The validations that are still to come are included, once one has shown what it takes.
        """
        if not self._recent or self._recent[-1][0] - self._recent[0][0] < MEASURED_STEPS:
            return None
        (first, began), (step, ended) = self._recent[0], self._recent[-1]
        seconds = (total - step) * (ended - began) / (step - first)
        count = len(self._validations)
        if count and (last := self._validations[-1] - self.first_step) > 0:
            to_come = (total - step) * count / last
            seconds += round(to_come) * self._validated / count
        return seconds


def left_text(seconds: float | None) -> str:
    """`5.2 min left`; nothing while it is not known."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s left"
    return f"{seconds / 60:.1f} min left" if seconds < 5400 else f"{seconds / 3600:.1f} h left"


class WatchesSummaries(Callback, ABC):
    """A callback that is told how far a validation is with its summaries, which can take minutes."""

    @abstractmethod
    def summaries_written(self, trainer: pl.Trainer, done: int, total: int) -> None:
        """Called on each rank after each batch of summaries, with this rank's counts."""


def tell_watchers(trainer: pl.Trainer) -> Callable[[int, int], None]:
    """A function that takes (summaries written, of how many)."""
    watchers = [callback for callback in callbacks_of(trainer) if isinstance(callback, WatchesSummaries)]

    def tell(done: int, total: int) -> None:
        for watcher in watchers:
            watcher.summaries_written(trainer, done, total)

    return tell


class ProgressFile(WatchesSummaries):
    """`progress.json` in the job's folder: `{"step": 200, "steps": 3000, "left_s": 312.0, "loss": 3.2}`, at most every ten seconds.

    While a validation writes summaries: `"stage": "validation", "done": 400, "of": 1000` besides.
    """

    def __init__(self, file: Path, total_steps: int) -> None:
        self.file, self.total_steps = file, total_steps
        self._last = -math.inf
        self._clock = TrainingClock()
        self._said: dict[str, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.start(trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.resume(trainer.global_step)
        if trainer.is_global_zero and self._said:
            self._write(self._said)

    def summaries_written(self, trainer: pl.Trainer, done: int, total: int) -> None:
        if trainer.is_global_zero and self._said and time.monotonic() - self._last >= LINE_EVERY_SECONDS:
            self._write(self._said | {"stage": Stage.validation.value, "done": done, "of": total})

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        self._clock.step(step)
        is_due = now - self._last >= LINE_EVERY_SECONDS or step == self.total_steps
        if not trainer.is_global_zero or step == self._clock.first_step or not is_due:
            return
        left = self._clock.left(self.total_steps)
        loss = float(trainer.callback_metrics.get(LOSS, math.nan))
        self._said = {"step": step, "steps": self.total_steps, "left_s": None if left is None else round(left, 1)}
        if math.isfinite(loss):
            self._said["loss"] = round(loss, 4)
        self._write(self._said)

    def _write(self, said: dict[str, Any]) -> None:
        self._last = time.monotonic()
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(said))
        partial.replace(self.file)


class ProgressLines(WatchesSummaries):
    """`step 200/3000  loss 3.21  9,800 tokens/s  5.2 min left`, at most every ten seconds, for logs and pipes.

    While a validation writes summaries: `validation at step 200: 400/1000 summaries`.
    """

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
        self._clock.step(step)
        if (
            not trainer.is_global_zero
            or step == self._clock.first_step
            or (now - self._last < LINE_EVERY_SECONDS and step < self.total_steps)
        ):
            return
        self._last = now
        parts = [
            f"step {step}/{self.total_steps}",
            *training_facts(trainer),
            left_text(self._clock.left(self.total_steps)),
        ]
        print("  ".join(filter(None, parts)), flush=True)

    def summaries_written(self, trainer: pl.Trainer, done: int, total: int) -> None:
        if trainer.is_global_zero and time.monotonic() - self._last >= LINE_EVERY_SECONDS:
            self._last = time.monotonic()
            print(f"validation at step {trainer.global_step}: {done:,}/{total:,} summaries", flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.resume(trainer.global_step)
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        print(validation_line(trainer), flush=True)


class ProgressBar(WatchesSummaries):
    """One bar over the optimizer steps of the whole run, with loss, tokens/s and the time that is left; a second one for a validation,
    over its batches and then its summaries; its figures as a line.

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
        self._clock.step(trainer.global_step)
        self.bar.update(self.task, completed=trainer.global_step)
        if time.monotonic() - self._read >= FACTS_EVERY_SECONDS:
            self._read = time.monotonic()
            left = left_text(self._clock.left(self.total_steps))
            self.bar.update(self.task, facts="  ".join(training_facts(trainer)), left=left)

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
            self.bar.update(self.validation, completed=batch_idx + 1)

    def summaries_written(self, trainer: pl.Trainer, done: int, total: int) -> None:
        if self.validation is not None:
            self.bar.update(self.validation, completed=done, total=total, facts="summaries")

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

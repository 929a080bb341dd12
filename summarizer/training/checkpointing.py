"""Checkpoints that survive a kill: written whole or not at all, resumed from to the bit.

A checkpoint holds, beyond Lightning's own (weights, optimizer, schedule, loop counters, callbacks, scaler): the position
in the list of batches, the state of every random generator, and which model it belongs to.
"""

from __future__ import annotations

import logging
import os
import random
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint

from summarizer.errors import CheckpointError, OutputError
from summarizer.run import Run
from summarizer.training.interruption import StopRequest, listening, stopped_at

log = logging.getLogger(__name__)
KEPT = 2  # newest step checkpoints: should the very last be damaged, the one before it is there


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to disk, rename: a kill or a full disk leaves the previous checkpoint alone."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError of its zip writer
            temporary.unlink(missing_ok=True)
            raise OutputError(
                f"the checkpoint {path} cannot be written ({reason(error)}): free disk space and continue with "
                f"resume={path.parent.parent}; the checkpoints before it are untouched."
            ) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


def reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:120]


def random_state() -> dict[str, Any]:
    name, keys, *position = np.random.get_state()
    # plain lists, so that a checkpoint, which may come home from a rented machine, is read without unpickling objects
    state: dict[str, Any] = {
        "python": random.getstate(), "numpy": [name, np.asarray(keys).tolist(), *position], "torch": torch.get_rng_state()
    }  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *position = state["numpy"]
    np.random.set_state((name, np.asarray(keys, dtype=np.uint32), *position))
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


class ExactResume(Callback):
    """Puts into every checkpoint what Lightning leaves out, and restores it before the first step of a resumed run."""

    def __init__(self, model_key: str) -> None:
        self.model_key = model_key
        self.restored: dict[str, Any] | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # one state a rank, because each draws its own dropout masks
        states = [random_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size  # type: ignore[list-item]
            torch.distributed.all_gather_object(states, random_state())
        checkpoint["summarizer"] = {
            "model_key": self.model_key,
            "batches_done": trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            "world_size": trainer.world_size,
            "random_states": states,
            "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
            "stopped_early": trainer.should_stop,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.restored = checkpoint["summarizer"]

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.restored is not None:
            # as late as this, because setting up loaders and sanity checks draw numbers
            set_random_state(self.restored["random_states"][trainer.global_rank])
            self.restored = None


class StepCheckpoints(Checkpoint):
    """A checkpoint every n optimizer steps, after every validation, and when the job is asked to stop.

    At a step that ends in a validation it is written after that validation, never before: a run killed in between
    goes back to the checkpoint before and validates again, so its best checkpoint is that of an uninterrupted run.
    Stands after the best-checkpoint callback, whose score must be in what is written here.
    """

    def __init__(self, run: Run, every_n_steps: int) -> None:
        self.run, self.every_n_steps = run, every_n_steps
        self.stop = StopRequest()
        self._handlers = ExitStack()
        self._saved_at = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # after Lightning has set its own handlers, which would raise in the middle of a step
        self.stop = self._handlers.enter_context(listening())
        self._saved_at = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            return
        asked = bool(trainer.strategy.reduce_boolean_decision(bool(self.stop), all=False))
        if asked or (trainer.global_step % self.every_n_steps == 0 and trainer.global_step != self._saved_at):
            self.save(trainer)
        if asked:
            raise stopped_at(trainer.global_step, trainer.max_steps, self.run.folder)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self.save(trainer)
        if trainer.strategy.reduce_boolean_decision(bool(self.stop), all=False):
            raise stopped_at(trainer.global_step, trainer.max_steps, self.run.folder)

    def save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.run.checkpoints / f"step-{trainer.global_step:08d}.ckpt")
        self._saved_at = trainer.global_step
        if trainer.is_global_zero:
            for old in sorted(self.run.checkpoints.glob("step-*.ckpt"))[:-KEPT]:
                old.unlink()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._handlers.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._handlers.close()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The whole checkpoint on the CPU.

    Raises:
        CheckpointError: it is truncated or not a checkpoint of this project.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content["summarizer"]["batches_done"]
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CheckpointError(f"the checkpoint {path} is damaged ({type(error).__name__}).") from error
    return content


@dataclass(frozen=True)
class Continuation:
    """Where a resumed run stands: its checkpoint, the batches it has seen, and what it had measured by then."""

    path: Path
    batches_done: int
    metrics: dict[str, float]
    stopped_early: bool


def newest_good_checkpoint(run: Run, model_key: str, world_size: int = 1) -> Continuation | None:
    """The newest step checkpoint that can be read; None when there is none.

    A damaged one is passed over with a warning.

    Raises:
        CheckpointError: checkpoints are there, but of another model or number of devices, or all are damaged.
    """
    found = sorted(run.checkpoints.glob("step-*.ckpt"), reverse=True)
    for path in found:
        try:
            facts = read_checkpoint(path)["summarizer"]
        except CheckpointError as error:
            log.warning("%s It is passed over.", error)
            continue
        if facts["model_key"] != model_key:
            raise CheckpointError(
                f"{path} is a checkpoint of another model ({facts['model_key']}) than the composed one ({model_key}): resume "
                "with the model it was trained with, or start a new run."
            )
        if facts["world_size"] != world_size:
            raise CheckpointError(
                f"{path} was written on {facts['world_size']} devices, but trainer.devices={world_size}: continue on as many."
            )
        return Continuation(path, facts["batches_done"], facts["metrics"], facts["stopped_early"])
    if found:
        raise CheckpointError(f"no checkpoint in {run.checkpoints} can be read: start the run anew in another folder.")
    return None

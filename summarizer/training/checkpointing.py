"""Checkpoints that survive a kill: written whole or not at all, resumed from to the bit.

A checkpoint holds, beyond Lightning's own (weights, optimizer, schedule, loop counters, callbacks, scaler): the position
in the list of batches, the state of every random generator, and the key of what all of it depends on. It holds no path: a
job's folder may be moved, to another machine and back.
"""

from __future__ import annotations

import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint, EarlyStopping, ModelCheckpoint

from summarizer.errors import CheckpointError, OutputError
from summarizer.run import Run
from summarizer.training.checkpoint_key import CheckpointKey, refusal
from summarizer.training.code_version import changed_code, code_version
from summarizer.training.interruption import StopRequest, listening, stopped_at
from summarizer.training.undeclared import callbacks_of

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

    def __init__(self, key: CheckpointKey, earlier_seconds: float = 0.0) -> None:
        self.key, self.earlier_seconds = key, earlier_seconds
        self.restored: dict[str, Any] | None = None
        self._started: float | None = None

    def seconds(self) -> float:
        """How long the training has taken, over all its starts; work that was lost to a kill is not counted."""
        return self.earlier_seconds + (time.perf_counter() - self._started if self._started is not None else 0.0)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._started = time.perf_counter()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # one state a rank, because each draws its own dropout masks
        states = [random_state()]
        if trainer.world_size > 1:
            states = [None] * trainer.world_size  # type: ignore[list-item]
            torch.distributed.all_gather_object(states, random_state())
        checkpoint["summarizer"] = {
            "key": self.key.stored(),
            "code": code_version(),
            "best_step": next((c.best_step for c in callbacks_of(trainer) if isinstance(c, BestCheckpoint)), None),
            "batches_done": trainer.fit_loop.epoch_loop.batch_progress.current.ready,
            "world_size": trainer.world_size,
            "random_states": states,
            "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
            "stopped_early": trainer.should_stop,
            "steps": trainer.global_step,
            "seconds": self.seconds(),
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


class BestCheckpoint(ModelCheckpoint):
    """`best.ckpt`, and the score it has to be better than: of the job, in whatever folder it is.

    Lightning forgets the score where the folder is another one, and overwrites the best by the next.
    """

    def __init__(self, run: Run, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=run.checkpoints, filename=run.best_checkpoint.stem, monitor=monitor, mode=mode, save_top_k=1,
            enable_version_counter=False, save_on_train_epoch_end=False,
        )  # fmt: skip
        self.best_step: int | None = None

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self.best_step = trainer.global_step
        super()._save_checkpoint(trainer, filepath)

    def state_dict(self) -> dict[str, Any]:
        return self._with_paths(super().state_dict(), os.path.basename) | {"best_step": self.best_step, "dirpath": None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_step = state_dict["best_step"]
        here = self._with_paths(state_dict, lambda name: os.path.join(str(self.dirpath), name))
        super().load_state_dict(here | {"dirpath": self.dirpath})

    @staticmethod
    def _with_paths(state: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = {name: change(state[name]) if state[name] else state[name] for name in names}
        return (
            state | paths | {"best_k_models": {change(path): score for path, score in state["best_k_models"].items()}}
        )


class PatientStopping(EarlyStopping):
    """Early stopping by the config's patience; Lightning goes on with the one in the checkpoint."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict | {"patience": self.patience})


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
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        assert fetcher is not None, "a batch has come from it"
        if loop._should_accumulate() or loop._should_check_val_fx(fetcher):
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
        # Asked after the last look, when every step was done and saved: the evaluation would not know of it.
        if trainer.strategy.reduce_boolean_decision(bool(self.stop), all=False):
            raise stopped_at(trainer.global_step, trainer.max_steps, self.run.folder)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._handlers.close()


def read_checkpoint(path: Path, *, mapped: bool = False) -> dict[str, Any]:
    """The whole checkpoint on the CPU.

    Args:
        mapped: leave the tensors on the disk until they are looked at.

    Raises:
        CheckpointError: it is truncated or not a checkpoint of this project.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        content["summarizer"]["batches_done"]
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise CheckpointError(f"the checkpoint {path} is damaged ({type(error).__name__}).") from error
    return content


def validation_of(path: Path) -> dict[str, float]:
    """The `validation/` metrics that a checkpoint was written with; its weights are not read."""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {key: value for key, value in content["summarizer"]["metrics"].items() if key.startswith("validation/")}


@dataclass(frozen=True)
class Continuation:
    """Where a resumed run stands: its checkpoint, the batches and steps it has done, and what it had measured by then."""

    path: Path
    batches_done: int
    steps: int
    seconds: float
    metrics: dict[str, float]
    stopped_early: bool
    callbacks: dict[str, Any]
    """State of each callback, by its key."""

    @classmethod
    def at(cls, path: Path, checkpoint: dict[str, Any]) -> Continuation:
        facts = checkpoint["summarizer"]
        return cls(
            path, facts["batches_done"], facts["steps"], facts["seconds"], facts["metrics"], facts["stopped_early"],
            checkpoint["callbacks"],
        )  # fmt: skip


def newest_good_checkpoint(
    run: Run, key: CheckpointKey, world_size: int = 1, data: Mapping[str, Any] | None = None, *, told: bool = False
) -> Continuation | None:
    """The newest step checkpoint that can be continued from; None when there is none at all.

    One that is damaged, or whose best checkpoint is lost, is passed over with a warning.

    Args:
        data: file of each split, for messages.
        told: name another version of the code, in one line.

    Raises:
        CheckpointError: checkpoints are there, but of another key or number of devices, or none can be used.
    """
    found = sorted(run.checkpoints.glob("step-*.ckpt"), reverse=True)
    for path in found:
        try:
            checkpoint = read_checkpoint(path, mapped=True)
        except CheckpointError as error:
            log.warning("%s It is passed over.", error)
            continue
        facts = checkpoint["summarizer"]
        if "key" not in facts:
            raise CheckpointError(
                f"{path} was written by an earlier version of this program, and does not say which data, tokenizer and settings it "
                "belongs to: start a new run in another folder (hydra.sweep.dir=<folder>, without resume)."
            )
        if changes := key.changes_since(facts["key"]):
            raise CheckpointError(refusal(changes, path, run.folder, data or {}))
        if facts["world_size"] != world_size:
            raise CheckpointError(
                f"{path} was written on {facts['world_size']} devices, but trainer.devices={world_size}: continue on as many."
            )
        if not best_is_there(run, facts["best_step"]):
            log.warning(
                "%s is passed over: the best checkpoint so far, of step %s, is not in the folder.",
                path, facts["best_step"],
            )  # fmt: skip
            continue
        if told and (named := changed_code(facts.get("code", {}), code_version())):
            log.warning("%s: %s", path.name, named)
        return Continuation.at(path, checkpoint)
    if found:
        raise CheckpointError(
            f"no checkpoint in {run.checkpoints} can be continued from (the reason of each is above): start the run anew in "
            "another folder."
        )
    return None


def best_is_there(run: Run, step: int | None) -> bool:
    """Whether the best checkpoint of a step can be had: a machine may have been lost while its files were fetched.

    The step checkpoint of the same step has the same weights, and is taken where that is left. A best checkpoint of a later
    step is as good: the resumed run writes it anew.
    """
    if step is None or step_of(run.best_checkpoint) >= step:
        return True
    same = run.checkpoints / f"step-{step:08d}.ckpt"
    if step_of(same) != step:
        return False
    temporary = run.best_checkpoint.with_name(f".{run.best_checkpoint.name}.{os.getpid()}.tmp")
    shutil.copyfile(same, temporary)
    os.replace(temporary, run.best_checkpoint)
    return True


def step_of(path: Path) -> int:
    """The optimizer step of a checkpoint; -1 where it is missing or damaged."""
    try:
        return int(read_checkpoint(path, mapped=True)["global_step"])
    except CheckpointError:
        return -1

"""A stop that is asked for when the last step and its validation are over: the job ends before it evaluates."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
from pytorch_lightning.demos.boring_classes import BoringModel

from summarizer.errors import Interrupted
from summarizer.run import Run
from summarizer.training.checkpointing import StepCheckpoints


class StopsAfterTheLastLook(pl.Callback):
    """Asks when the checkpoints' callback has looked for the last time, in a validation."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_after_the_last_step_is_not_forgotten(number: int, tmp_path: Path):
    run = Run(tmp_path)
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=2, limit_train_batches=2, limit_val_batches=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[StepCheckpoints(run, 100), StopsAfterTheLastLook(number)],
    )  # fmt: skip
    with pytest.raises(Interrupted, match="Stopped at step 2 of 2; saved"):
        trainer.fit(BoringModel())
    assert [path.name for path in run.checkpoints.glob("*.ckpt")] == ["step-00000002.ckpt"]

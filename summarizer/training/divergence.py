"""A loss that is no number any more: the run ends, instead of paying for steps that learn nothing."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from summarizer.errors import DivergenceError
from summarizer.metric_names import LOSS
from summarizer.training.undeclared import log_interval

LIMIT = 2  # logged steps in a row: once may be an overflow of float16, after which the loss scale falls and training goes on


class StopAtDivergence(Callback):
    """Looks at the loss where it is logged, so that the device is waited for no more often.

    Every rank sees the same soon: gradients are exchanged, and weights without numbers are so everywhere.

    Raises:
        DivergenceError: the loss was infinite or no number at two logged steps in a row.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self._seen = self._lost = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step == self._seen or step % log_interval(trainer):
            return
        self._seen = step
        loss = float(trainer.callback_metrics.get(LOSS, 0.0))
        self._lost = 0 if math.isfinite(loss) else self._lost + 1
        if self._lost == LIMIT:
            raise DivergenceError(
                f"the training loss is {loss} at step {step}: start again with a lower learning rate than "
                f"optim.lr={self.learning_rate:g}, or with hardware.precision=32-true."
            )

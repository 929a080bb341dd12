"""Exponential moving average of the weights: the model that is validated, kept and evaluated."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor


class AveragedWeights(Callback):
    """Average of the trained weights, updated after each optimizer step; validations and checkpoints use the average.

    Written by hand in place of Lightning's `WeightAveraging`, which copies the module before the strategy has moved and
    cast it (the average of a training on a card stays on the processor, and every weight is fetched each step), averages
    frozen weights too, and keeps the average in the weights' type while it validates.

    The average is made of the first step's weights, where they are by then, and always in float32: with a decay of 0.999
    a step moves it by a thousandth of a difference, which bfloat16's 8 bits round away.

    Stands after the validation's own summaries in the list of callbacks: the trained weights come back in the same hook.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] | None = None
        self._trained: list[Tensor] | None = None
        self._pairs: list[tuple[Tensor, Tensor]] | None = None
        self._updated_at = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._updated_at, self._pairs = trainer.global_step, None
        if self.average is not None:  # read from a checkpoint before the strategy had moved the weights
            of = trained_weights(pl_module)
            self.average = {name: average.to(of[name].device) for name, average in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self._updated_at:
            return
        self._updated_at = trainer.global_step
        if self.average is None:
            self.average = {
                name: weight.to(torch.float32, copy=True) for name, weight in trained_weights(pl_module).items()
            }
            return
        if self._pairs is None:  # looked up once: a step of a small model takes no longer than the look-up of its names
            weights = trained_weights(pl_module)
            self._pairs = [(average, weights[name]) for name, average in self.average.items()]
        averages, trained = zip(*self._pairs, strict=True)
        # all weights in a few launches
        torch._foreach_lerp_(averages, [weight.float() for weight in trained], 1 - self.decay)

    @torch.no_grad()
    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.average is not None:
            weights = trained_weights(pl_module)
            self._trained = [weights[name].clone() for name in self.average]
            self._put(pl_module, list(self.average.values()))

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._trained is not None:
            self._put(pl_module, self._trained)
            self._trained = None

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.average is not None:
            self._put(pl_module, list(self.average.values()))

    def _put(self, module: pl.LightningModule, values: list[Tensor]) -> None:
        """Write values into the weights in place: recorded steps read them at their addresses."""
        weights = trained_weights(module)
        assert self.average is not None
        torch._foreach_copy_([weights[name] for name in self.average], values)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """`state_dict` is the averaged model, whoever reads it; the trained weights stand beside it."""
        if self.average is None:
            return
        state = checkpoint["state_dict"]
        checkpoint["current_model_state"] = state
        averaged = dict(state)
        first_name = {id(weight): name for name, weight in pl_module.named_parameters()}
        # tied weights have several names, and the last one that is loaded counts
        for name, weight in pl_module.named_parameters(remove_duplicate=False):
            if name in averaged and first_name[id(weight)] in self.average:
                averaged[name] = self.average[first_name[id(weight)]]
        checkpoint["state_dict"] = averaged

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if "current_model_state" not in checkpoint:  # of a run that had not averaged
            return
        averaged = checkpoint["state_dict"]
        self.average = {name: averaged[name].to(torch.float32, copy=True) for name in trained_weights(pl_module)}
        pl_module.load_state_dict(checkpoint["current_model_state"])


def trained_weights(module: pl.LightningModule) -> dict[str, Tensor]:
    """What is averaged, by name: frozen weights are their own average."""
    return {name: weight.detach() for name, weight in module.named_parameters() if weight.requires_grad}

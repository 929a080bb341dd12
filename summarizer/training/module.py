"""The one Lightning module: any model that answers transformers' sequence-to-sequence or causal interface."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from summarizer.data.collate import IGNORED
from summarizer.metric_names import GRADIENT_NORM, LEARNING_RATE, LOSS, VALIDATION_LOSS
from summarizer.packing.graphs import RecordedLoss
from summarizer.packing.training import PackedLoss
from summarizer.training.exchange import ExchangeAtStep, StepMean
from summarizer.training.optimizers import build_optimizer, build_schedule
from summarizer.training.parts import PartedLoss
from summarizer.training.sharding import shard
from summarizer.training.undeclared import log_interval

if TYPE_CHECKING:
    from omegaconf import DictConfig

INPUTS = ("input_ids", "attention_mask", "global_attention_mask", "labels")


class SummarizationModule(pl.LightningModule):
    """Loss, optimizer and schedule of one model.

    Args:
        model: takes `input_ids`, `attention_mask` and `labels` and returns `loss` and `logits`.
        total_steps: optimizer steps of the whole run, over which the learning rate decays.
        packing: settings of `PackedLoss`, where training batches are packs.
        in_parts: compute batches in parts, by `PartedLoss`.
        recorded: replay padded batches as CUDA graphs: settings of `RecordedLoss`.
    """

    def __init__(
        self,
        model: Any,
        optim: DictConfig,
        scheduler: DictConfig,
        total_steps: int,
        packing: dict[str, Any] | None = None,
        in_parts: bool = False,
        recorded: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.packing, self.in_parts, self.recorded = packing, in_parts, recorded
        self.special_loss: PackedLoss | PartedLoss | RecordedLoss | None = None
        self.step_mean: StepMean | None = None
        self.validated: list[Tensor] = []
        self.model = model
        self.optim, self.scheduler, self.total_steps = optim, scheduler, total_steps

    def loss(self, batch: dict[str, Any], label_smoothing: float = 0.0) -> Tensor:
        """Mean cross-entropy over the summary's tokens: a scalar."""
        inputs = {key: batch[key] for key in INPUTS if key in batch}
        if label_smoothing == 0 or getattr(self.model, "smooths_labels", False):
            extra = {"label_smoothing": label_smoothing} if label_smoothing else {}
            return self.model(**inputs, **extra).loss
        logits = self.model(**inputs).logits
        labels = inputs["labels"]
        if not self.model.config.is_encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]
        return F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, label_smoothing=label_smoothing
        )

    @property
    def logs_this_step(self) -> bool:
        """Whether anyone will read what this step logs: Lightning's bookkeeping of a value costs a small model 1 % of a step."""
        step = self.trainer.global_step + 1
        return step % log_interval(self.trainer) == 0 or step in (1, self.total_steps)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        if self.special_loss is None:  # made when the weights are where they stay
            if self.packing is not None:
                self.special_loss = PackedLoss(self.model, label_smoothing=self.optim.label_smoothing, **self.packing)
            elif self.in_parts:
                self.special_loss = PartedLoss(self.model, self.optim.label_smoothing)
            elif self.recorded is not None:
                loss_of = partial(self.loss, label_smoothing=self.optim.label_smoothing)
                self.special_loss = RecordedLoss(loss_of, list(self.model.parameters()), **self.recorded)
        loss = self.special_loss(batch) if self.special_loss else self.loss(batch, self.optim.label_smoothing)
        if self.logs_this_step:
            self.log(LOSS, loss.detach(), prog_bar=True, batch_size=batch["documents"])
        if self.step_mean is None:
            self.step_mean = StepMean(
                passes=self.trainer.accumulate_grad_batches,
                world_size=self.trainer.world_size,
                exchanged=not isinstance(self.trainer.strategy, ExchangeAtStep),
            )
        return self.step_mean.weighed(loss, batch["labels"])

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        assert self.step_mean is not None, "a step without a pass"
        self.step_mean.finish(self.model.parameters())

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        tokens = (batch["labels"] != IGNORED).sum().float()
        self.validated.append(torch.stack([self.loss(batch).detach().float() * tokens, tokens]))

    def on_validation_epoch_end(self) -> None:
        """Log the mean over all target tokens of the split: one number, however it was cut into batches and shared out."""
        sums = torch.stack(self.validated).cpu().double().sum(dim=0)
        self.validated.clear()
        if self.trainer.world_size > 1:
            sums = sums.to(self.device)
            torch.distributed.all_reduce(sums)
        total, tokens = sums.tolist()
        # the same on every rank already; to say so keeps Lightning from advising it
        self.log(VALIDATION_LOSS, total / max(1.0, tokens), prog_bar=True, sync_dist=self.trainer.world_size > 1)

    def configure_model(self) -> None:
        """Under FSDP: divide the model; Lightning calls this before the optimizer is built."""
        if isinstance(self.trainer.strategy, ModelParallelStrategy) and not isinstance(self.model, FSDPModule):
            assert self.device_mesh is not None, "such a strategy has made it"
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.model, self.optim)
        schedule = build_schedule(optimizer, self.scheduler, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        """Clip to the global norm and log what it was before."""
        limit = self.optim.gradient_clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), float("inf") if limit is None else limit)
        if isinstance(norm, DTensor):
            norm = norm.full_tensor()
        if self.logs_this_step:
            self.log(GRADIENT_NORM, norm)
            self.log(LEARNING_RATE, optimizer.param_groups[0]["lr"])

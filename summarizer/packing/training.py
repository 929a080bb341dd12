"""What a training loop needs of packing, and nothing else: is it to be, which packs, and the loss of one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summarizer.packing.anatomy import packing_obstacle, start_token
from summarizer.packing.causal import PackedCausal, causal_packing_obstacle
from summarizer.packing.collate import PackedCausalCollator, PackedSeq2SeqCollator
from summarizer.packing.graphs import Loss, RecordedLoss
from summarizer.packing.planning import PackBudget, choose_budget
from summarizer.packing.seq2seq import PackedSeq2Seq

log = logging.getLogger(__name__)

SETTINGS = ("auto", "always", "never")


def wants_packing(setting: str, model: Any, device: torch.device) -> bool:
    """Whether to train on packs.

    Args:
        setting: auto packs on CUDA where the model can, because that is where padding costs most; always packs wherever
            the model can; never does not.

    A model that cannot is padded as before, with one warning that names the reason and the cost.
    """
    assert setting in SETTINGS, f"packing is one of {', '.join(SETTINGS)}, not {setting}"
    if setting == "never" or (setting == "auto" and device.type != "cuda"):
        return False
    find = packing_obstacle if model.config.is_encoder_decoder else causal_packing_obstacle
    obstacle = find(model)
    if obstacle is not None:
        log.warning(
            "training pads documents of like length instead of packing, several times slower on a GPU: %s", obstacle
        )
    return obstacle is None


def budget_for(
    source_lengths: np.ndarray, target_lengths: np.ndarray, *, tokens: int, step_documents: int, world_size: int = 1
) -> PackBudget:
    """A pack as large as the device holds, but no more documents than an optimizer step is to see.

    Args:
        tokens: source and target tokens in one forward pass on one device.
        step_documents: documents of an optimizer step on all devices together.
    """
    share = float(np.mean(source_lengths)) / float(np.mean(source_lengths) + np.mean(target_lengths))
    documents = max(1, step_documents // world_size)
    return choose_budget(source_lengths, target_lengths, source_tokens=int(tokens * share), documents=documents)


def packed_collator(model: Any, budget: PackBudget, pad_token_id: int) -> PackedSeq2SeqCollator | PackedCausalCollator:
    if model.config.is_encoder_decoder:
        return PackedSeq2SeqCollator(budget, pad_token_id, start_token(model.config))
    return PackedCausalCollator(budget, pad_token_id)


class PackedLoss:
    """The training loss of packs, by whatever is fastest for this model and device.

    Args:
        compiled: compile the layers (encoder-decoders on CUDA).
        recorded: replay forward and backward as one CUDA graph (with `compiled`; not with FSDP, nor in DDP's wrapper: a
            replay runs none of the hooks by which they exchange gradients).
        compute: autocast's type; None computes in the parameters'.

    Each call draws a seed from PyTorch's generator on the CPU: checkpoints hold it, and asking it does not wait.
    """

    def __init__(
        self, model: Any, *, compiled: bool = False, recorded: bool = False, label_smoothing: float = 0.0,
        compute: torch.dtype | None = None, attention: str = "auto", residual_dtype: torch.dtype | None = None,
        checkpoint_layers: bool = False,
    ) -> None:  # fmt: skip
        self.label_smoothing = label_smoothing
        self.causal = None if model.config.is_encoder_decoder else PackedCausal(model)
        if self.causal is None:
            self.run = PackedSeq2Seq(
                model,
                attention=attention,
                compiled=compiled,
                residual_dtype=residual_dtype,
                checkpoint_layers=checkpoint_layers,
            )
            self.seeded: Loss = self._seeded
            if recorded:
                self.seeded = RecordedLoss(self._seeded, list(model.parameters()), compute=compute)

    def __call__(self, pack: dict[str, Any]) -> Tensor:
        """A float32 scalar to call backward on."""
        if self.causal is not None:
            return self.causal.loss(pack, self.label_smoothing)
        seed = int(torch.randint(-(2**31), 2**31 - 1, ()))
        return self.seeded(pack | {"seed": torch.full((), seed, dtype=torch.int32, device=pack["labels"].device)})

    def _seeded(self, pack: dict[str, Any]) -> Tensor:
        return self.run.loss(pack, self.label_smoothing, pack["seed"])

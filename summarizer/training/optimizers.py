"""Optimizer and learning-rate schedule by config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Trainable parameters in two groups: matrices decay; biases, norms and scalars do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: nn.Module, optim: DictConfig) -> Optimizer:
    groups = [group for group in parameter_groups(model, optim.weight_decay) if group["params"]]
    if optim.name == "adafactor":
        return torch.optim.Adafactor(groups, lr=optim.lr)
    device = next(model.parameters()).device.type
    fused = device in ("cuda", "cpu", "mps") if optim.fused is None else optim.fused
    return torch.optim.AdamW(groups, lr=optim.lr, betas=tuple(optim.betas), eps=optim.eps, fused=fused)


def build_schedule(optimizer: Optimizer, scheduler: DictConfig, total_steps: int) -> LRScheduler:
    """Warm-up and decay over `total_steps` optimizer steps, as transformers defines the named schedules."""
    from transformers import get_scheduler

    warmup = warmup_steps(scheduler, total_steps)
    return get_scheduler(scheduler.name, optimizer, num_warmup_steps=warmup, num_training_steps=total_steps)


def warmup_steps(scheduler: DictConfig, total_steps: int) -> int:
    """Optimizer steps over which the learning rate rises."""
    steps = scheduler.warmup_steps
    return round(scheduler.warmup_ratio * total_steps) if steps is None else int(steps)

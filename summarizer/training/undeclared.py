"""What Lightning's Trainer has and does not declare, with its type."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.callbacks import Callback


def log_interval(trainer: Any) -> int:
    """Steps from one logged step to the next."""
    return int(trainer.log_every_n_steps)


def callbacks_of(trainer: Any) -> list[Callback]:
    """The list itself: what is appended runs."""
    found: list[Callback] = trainer.callbacks
    return found

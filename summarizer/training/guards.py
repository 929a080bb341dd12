"""What a training is wrapped in: errors of memory in one sentence, and no advertising of libraries."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning_fabric.utilities.warnings import PossibleUserWarning
from pytorch_lightning.callbacks import model_checkpoint
from pytorch_lightning.utilities import _pytree

from summarizer.errors import HardwareError


@contextmanager
def memory_errors() -> Iterator[None]:
    """Say in one sentence that memory does not suffice, however an allocator says it.

    Raises:
        HardwareError: it does not.
    """
    try:
        yield
    except (
        MemoryError,
        RuntimeError,
    ) as error:  # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator raises it plainly
        text = str(error)
        if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
            raise HardwareError(
                "the device's memory does not suffice: lower trainer.batch_size, hardware.tokens_per_step or "
                "model.max_source_tokens, or set model.gradient_checkpointing=true."
            ) from error
        raise


class quiet_lightning:
    """While inside, Lightning's advertising and guesses at what a user may have meant are not shown."""

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        # "possible": its own word for hints that may not apply, such as srun on a machine with Slurm, or more workers
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        for module in (
            _pytree,
            model_checkpoint,
        ):  # its use of torch, and a folder for checkpoints that is there already
            warnings.filterwarnings("ignore", module=re.escape(module.__name__))
        self._logger = logging.getLogger("pytorch_lightning")
        self._level = self._logger.level
        self._logger.setLevel(logging.WARNING)
        rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
        rank_zero.setLevel(logging.WARNING)

    def __exit__(self, *exception: Any) -> None:
        self._logger.setLevel(self._level)
        self._caught.__exit__(*exception)

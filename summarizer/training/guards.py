"""What a training is wrapped in: errors of memory in one sentence, and no advertising of libraries."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """While inside, Lightning's advertising and tips that do not apply here are not shown."""

    NOISE = (
        "isinstance.treespec, LeafSpec",
        "does not have many workers",
        "Consider setting `persistent_workers",
        "Checkpoint directory",
        "is not resumable",
    )

    def __enter__(self) -> None:
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        for text in self.NOISE:
            warnings.filterwarnings("ignore", message=f".*{text}")
        self._logger = logging.getLogger("pytorch_lightning")
        self._level = self._logger.level
        self._logger.setLevel(logging.WARNING)
        rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
        rank_zero.setLevel(logging.WARNING)

    def __exit__(self, *exception: Any) -> None:
        self._logger.setLevel(self._level)
        self._caught.__exit__(*exception)

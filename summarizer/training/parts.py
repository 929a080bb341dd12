"""A training batch on the cores of a processor: two parts of it at the same time, each on half of the threads.

Threads that share an operation meet after each one, and the operations of a small model take microseconds: they wait more
than they compute. Parts of the batch meet once a step.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from summarizer.packing.gradients import handed_over

INPUTS = ("input_ids", "attention_mask", "labels")
BY_ROW = (*INPUTS, "replaced", "replaced_targets")


def takes_parts(model: Any) -> bool:
    """Whether there are threads to share, and the model says that losses and gradients of a batch's parts add up."""
    return torch.get_num_threads() > 1 and getattr(model, "adds_up", False)


class PartedLoss:
    """The training loss of a batch, and its gradients, from two parts computed at the same time.

    `loss = parted(batch)`; `loss.backward()` adds the gradients to `.grad`. What is random is drawn for the batch, as
    without parts, and the two gradients of a weight are added in no order that matters: a run repeats to the bit.

    Args:
        model: see `takes_parts`.
    """

    def __init__(self, model: Any, label_smoothing: float = 0.0) -> None:
        self.model, self.label_smoothing = model, label_smoothing
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.other = ThreadPoolExecutor(1, thread_name_prefix="part")

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        inputs = {name: batch[name] for name in INPUTS}
        inputs |= self.model.whole_batch(**inputs)
        half = len(inputs["labels"]) // 2
        if half == 0:
            return self.model(**inputs, label_smoothing=self.label_smoothing).loss
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
        with threads(max(1, torch.get_num_threads() // 2)):
            second = self.other.submit(self._part, inputs, slice(half, None), dtype, torch.get_num_threads())
            try:
                loss, gradients = self._part(inputs, slice(half), dtype)
            finally:
                other_loss, other_gradients = second.result()
        torch._foreach_add_(gradients, other_gradients)
        return handed_over(loss + other_loss, self.parameters, gradients)

    def _part(
        self, inputs: dict[str, Any], rows: slice, dtype: torch.dtype | None, number: int | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss and gradients of some rows. Autocast and the number of threads are a thread's own, to be set in each."""
        if number is not None:
            torch.set_num_threads(number)
        part = {name: value[rows] if name in BY_ROW and value is not None else value for name, value in inputs.items()}
        # no cache of cast weights: it would be shared, and emptied by the part that ends first
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None, cache_enabled=False):
            loss = self.model(**part, label_smoothing=self.label_smoothing).loss
        return loss.detach(), list(torch.autograd.grad(loss, self.parameters))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """That many threads an operation, for this thread of the program and those started inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Forward and backward of a batch as one CUDA graph: the host launches one thing a step instead of some thousand.

Worth most where layers are small: half again the speed for BART base on an H100, a twentieth for T5 base.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from summarizer.packing.gradients import handed_over

log = logging.getLogger(__name__)

WARM_UP_PASSES = 3  # before a capture: compilation, workspaces, and the allocator's settling
MOST_SHAPES = 32  # of which recordings are kept: each holds the gradients of all weights

Batch = dict[str, Any]
Loss = Callable[[Batch], Tensor]


class RecordedLoss:
    """A loss whose forward and backward are recorded once for each shape of a batch, and replayed.

    `loss = recorded(batch)`; `loss.backward()` adds the gradients to `.grad`. Works with automatic optimization and
    accumulation, and on several devices where gradients are exchanged after backward; DDP's wrapper and FSDP do so in
    hooks, which a replay does not run. What cannot be recorded is launched operation by operation from then on, with one warning.

    Without CUDA a replay computes anew, by the same buffers and the same hand-over of gradients.

    Args:
        loss: of a batch; asks the device for no number, and draws at random by PyTorch's generator of the device, which a
            replay moves on as the pass itself does, or by numbers in the batch.
        parameters: that are trained.
        compute: autocast's type; None computes in the parameters'.
        frequent: times that a shape must have come up before it is recorded: recording costs some steps, and shapes that come up
            once an epoch are left alone.
    """

    def __init__(
        self,
        loss: Loss,
        parameters: Sequence[nn.Parameter],
        *,
        compute: torch.dtype | None = None,
        frequent: int = 0,
    ) -> None:
        self.loss, self.compute, self.frequent = loss, compute, frequent
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.recordings: dict[tuple[Any, ...], Recording] = {}
        self._seen: Counter[tuple[Any, ...]] = Counter()
        self._pool: Any = None
        self._fails = False

    def __call__(self, batch: Batch) -> Tensor:
        """A float32 scalar to call backward on."""
        shapes = tuple((name, value.shape) for name, value in batch.items() if isinstance(value, Tensor))
        if shapes in self.recordings:
            return self.recordings[shapes](batch)
        self._seen[shapes] += 1
        if self._fails or self._seen[shapes] <= self.frequent or len(self.recordings) == MOST_SHAPES:
            return self._launched(batch)
        try:
            recording = self._recorded(batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            log.warning("steps are not recorded as a CUDA graph, which is slower: %s", reason)
            self._fails = True
            return self._launched(batch)
        self.recordings[shapes] = recording
        return recording(batch)

    def _launched(self, batch: Batch) -> Tensor:
        device = self.parameters[0].device.type
        # without a cache of cast weights, which a recording would read in place of the weights
        with torch.autocast(device, self.compute, enabled=self.compute is not None, cache_enabled=False):
            return self.loss(batch)

    def _recorded(self, batch: Batch) -> Recording:
        device = self.parameters[0].device
        if device.type == "cuda" and self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()  # of one memory, since one is replayed at a time
        recording = Recording(self._launched, self.parameters, batch)
        if device.type == "cuda":
            recording.record(device, self._pool, warm_up=0 if self.frequent else WARM_UP_PASSES)
        return recording


class Recording:
    """Forward and backward of batches of one shape."""

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter], batch: Batch) -> None:
        self.loss, self.trained = loss, parameters
        self.batch = {name: value.clone() if isinstance(value, Tensor) else value for name, value in batch.items()}
        self.replay: Callable[[], None] = self._once
        self.parameters: list[Tensor] = []
        self.gradients: list[Tensor] = []
        self.value = torch.empty(0)

    def __call__(self, batch: Batch) -> Tensor:
        for name, value in batch.items():
            if isinstance(value, Tensor):
                self.batch[name].copy_(value, non_blocking=True)
        self.replay()
        # the next replay overwrites them, while a step may still be summing over several passes
        return handed_over(self.value, self.parameters, self.gradients, reused=True)

    def _once(self) -> None:
        """Forward and backward into new gradients, which leave those that a step has summed so far alone."""
        before = [parameter.grad for parameter in self.trained]
        # without gradients before it, backward writes new ones (inside the graph's memory) instead of adding
        for parameter in self.trained:
            parameter.grad = None
        try:
            loss = self.loss(self.batch)
            loss.backward()
            self.value = loss.detach()
            self.parameters = [parameter for parameter in self.trained if parameter.grad is not None]
            self.gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        finally:  # a pass that cannot be recorded is run as it is next, and adds to what is here
            for parameter, gradient in zip(self.trained, before, strict=True):
                parameter.grad = gradient

    def record(self, device: torch.device, pool: Any, warm_up: int) -> None:
        drawn = torch.cuda.get_rng_state(device)  # what is drawn before the capture must not show
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(max(1, warm_up)):
                self._once()
        torch.cuda.current_stream(device).wait_stream(side)
        torch.cuda.set_rng_state(drawn, device)
        self.gradients = []  # their memory is free for the graph's own
        graph = torch.cuda.CUDAGraph()
        # other threads may call CUDA meanwhile: a loader that pins memory, the watchdog of NCCL
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._once()
        self.replay = graph.replay

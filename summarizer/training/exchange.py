"""An optimizer step over several forward passes and devices as one step over all of their documents.

Two things are decided here. The mean: the loss of a step is the mean over all target tokens of the step, whichever pass
or device they were in (as transformers' Trainer has it since 4.46); a mean of each pass's mean would weigh a token
in a short pass more than one in a long pass. And the exchange: where DDP's hooks cannot run, because a pass is replayed as
a CUDA graph, gradients are summed over the devices once a step, in a few flat buckets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import torch
import torch.distributed
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from summarizer.data.collate import IGNORED

BUCKET_BYTES = (
    128 * 2**20
)  # large enough for the full bandwidth of NVLink, small enough to copy one while another is sent


class ExchangeAtStep(DDPStrategy):
    """A whole model on each device, without DDP's wrapper: `StepMean` sums the gradients, once a step.

    A replayed CUDA graph runs no autograd hooks, and DDP would wait for them. The exchange begins when backward has
    ended instead of overlapping with it; the summed gradients of several passes are sent once.
    """

    def configure_ddp(self) -> None:
        assert isinstance(self.model, nn.Module)
        with torch.no_grad():
            for tensor in chain(self.model.parameters(), self.model.buffers()):
                torch.distributed.broadcast(tensor, src=0)


def sum_gradients(gradients: Sequence[Tensor], bucket_bytes: int = BUCKET_BYTES) -> list[Tensor]:
    """Sums over the process group, in the order given; the arguments may be freed.

    Args:
        gradients: the same shapes and types on every rank, on the device of the process group's backend.
    """
    works, flats = [], []
    for bucket in buckets(gradients, bucket_bytes):
        flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
        # runs beside the copying of the next bucket
        works.append(torch.distributed.all_reduce(flat, async_op=True))
        flats.append((flat, bucket))
    summed: list[Tensor] = []
    for work, (flat, bucket) in zip(works, flats, strict=True):
        work.wait()  # on a GPU the stream waits, not the host
        parts = flat.split([gradient.numel() for gradient in bucket])
        summed += [part.view(gradient.shape) for part, gradient in zip(parts, bucket, strict=True)]
    return summed


def buckets(gradients: Sequence[Tensor], most_bytes: int) -> Iterable[list[Tensor]]:
    """Consecutive gradients of one type, together at most `most_bytes`, at least one."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.nbytes > most_bytes or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


class StepMean:
    """Makes the gradients of one optimizer step those of its mean loss over all target tokens.

    Each pass's mean loss goes through `weighed` before backward; `finish` comes once, before clipping. With one pass on
    one device both do nothing.

    Args:
        passes: forward passes of a step on each device, over which the trainer divides each loss.
        world_size: devices.
        exchanged: DDP or FSDP have averaged the gradients over the devices already; else `finish` sums them.
    """

    def __init__(self, *, passes: int, world_size: int, exchanged: bool) -> None:
        self.passes, self.world_size, self.exchanged = passes, world_size, exchanged
        self.tokens: Tensor | None = None

    def weighed(self, loss: Tensor, labels: Tensor) -> Tensor:
        """The sum of a pass's losses, out of their mean."""
        if self.passes == self.world_size == 1:
            return loss
        tokens = (labels != IGNORED).sum().float()
        self.tokens = tokens if self.tokens is None else self.tokens + tokens
        return loss * tokens

    @torch.no_grad()
    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide the gradients by the tokens of all passes of the step on all devices."""
        if self.tokens is None:
            return
        tokens, self.tokens = self.tokens, None
        if self.world_size > 1:
            torch.distributed.all_reduce(tokens)
        learned = [parameter for parameter in parameters if parameter.grad is not None]
        if self.world_size > 1 and not self.exchanged:
            # which parameters have gradients is a matter of the model, not of the documents: the same on every rank
            for parameter, summed in zip(learned, sum_gradients(taken(learned)), strict=True):
                parameter.grad = summed
        factor = self.passes * (self.world_size if self.exchanged else 1) / tokens.clamp(min=1)
        torch._foreach_mul_([local(parameter.grad) for parameter in learned], factor)


def taken(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def local(gradient: Tensor | None) -> Tensor:
    """This device's part of a gradient, in its own memory."""
    assert gradient is not None
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient

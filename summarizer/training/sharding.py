"""Parameters, gradients and optimizer state divided over the devices: fully sharded data parallelism (FSDP2).

Zhao et al. 2023, arXiv 2304.11277, by torch's `fully_shard`, which keeps each parameter's name and works on CPU and GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

LAYER_NAMES = ("Block", "EncoderLayer", "DecoderLayer")  # endings of the class names of transformers' repeated layers


def repeated_layers(model: nn.Module) -> Iterator[nn.Module]:
    """The encoder and decoder layers of a model of transformers, or of our own."""
    return (layer for layer in model.modules() if type(layer).__name__.endswith(LAYER_NAMES))


def shard(model: nn.Module, mesh: Any) -> None:
    """Divide a model over the devices of `mesh`, layer by layer: a forward pass holds one layer whole at a time.

    T5's bias by distance is kept in a stack's first layer and used by all of them, hence divided by itself.
    """
    for name, module in list(model.named_modules()):
        if name.endswith("relative_attention_bias"):
            fully_shard(module, mesh=mesh)
    for layer in list(repeated_layers(model)):
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """While inside, each device holds all parameters and no forward pass communicates.

    Beam search needs it: the ranks write summaries of unequal lengths, and a rank that has finished would leave the
    others waiting for its shards. A model that is not sharded is left as it is.
    """
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(True, recurse=False)
            part.reshard()

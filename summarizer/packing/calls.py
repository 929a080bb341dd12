"""Functions of a module's parameters run as the module's own call, where FSDP has the parameters whole.

FSDP2 (torch's `fully_shard`) gathers a module's parameters in a hook before its call, divides them again in one after
it, and in backward sums the gradients over the devices once those of the call's arguments are made. A packed pass calls
none of transformers' forward methods; it borrows the call alone, and with it gathering, prefetching and reduction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule


def own_call(module: nn.Module, function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, as the call of `module` where that is divided over devices.

    Args:
        function: reads the module's parameters when it runs, not before.
        arguments: every tensor that needs a gradient and does not come from the module's own parameters: the gradients
            of the module are summed when theirs are made.
    """
    if not isinstance(module, FSDPModule):
        return function(*arguments)
    assert isinstance(module, nn.Module)
    module.forward = function
    try:
        # nn.Module's call, not the class's: transformers' own would checkpoint activations a second time
        return nn.Module.__call__(module, *arguments)
    finally:
        del module.forward  # the class's is seen again

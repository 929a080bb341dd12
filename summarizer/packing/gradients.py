"""Gradients that were made before anyone called backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class _HandedOver(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, handle: Tensor, loss: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor], reused: bool
    ) -> Tensor:
        ctx.parameters, ctx.gradients, ctx.reused = parameters, gradients, reused
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[None, None, None, None, None]:
        (scale,) = outputs
        gradients = ctx.gradients
        if ctx.reused or scale != 1:
            gradients = torch._foreach_mul(gradients, scale)
        for parameter, gradient in zip(ctx.parameters, gradients, strict=True):
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient
        return None, None, None, None, None


def handed_over(
    loss: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor], *, reused: bool = False
) -> Tensor:
    """`loss`, whose backward adds these gradients to the parameters' `.grad` as if they were made there.

    Args:
        reused: the gradients' memory will hold others before the optimizer's step: they are copied.
    """
    handle = torch.zeros((), device=loss.device, requires_grad=True)
    return _HandedOver.apply(handle, loss, parameters, gradients, reused)

"""Bounds that come from the arithmetic: how far float32 may be off is measured where the test runs, against float64."""

from __future__ import annotations

import torch
from torch import Tensor

SLACK = 8.0
"""Two ways of one sum round differently, by the order and the instructions of the processor: by how much one may be worse."""


def assert_rounds_like(found: Tensor, plain: Tensor, exact: Tensor, slack: float = SLACK) -> None:
    """Assert that `found` is `exact` up to rounding: not much further from it than `plain`, the same in float32 by a plain way.

    Args:
        exact: float64. Where `plain` happens to hit it, what one rounding of its largest number costs counts in its place.
    """
    assert found.shape == exact.shape
    one_rounding = torch.finfo(torch.float32).eps * float(exact.abs().max())
    allowed = slack * max(largest(plain.double() - exact), one_rounding)
    off = largest(found.double() - exact)
    assert off <= allowed, f"off by {off:.2g}, where {allowed:.2g} is rounding"


def largest(x: Tensor) -> float:
    return float(x.abs().max())

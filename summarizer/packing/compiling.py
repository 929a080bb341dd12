"""Compiled functions that fall back to themselves."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)


class OrElse:
    """A function compiled, or itself from the first failure of the compiler on, with one warning."""

    def __init__(self, function: Callable[..., Any], compiled: bool) -> None:
        self.function = function
        self.compiled: Callable[..., Any] | None = torch.compile(function, dynamic=False) if compiled else None

    def __call__(self, *arguments: Any) -> Any:
        if self.compiled is None:
            return self.function(*arguments)
        try:
            return self.compiled(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # the compiler raises whatever broke inside it
            self.compiled = None
            reason = " ".join(str(error).split())[:200]
            log.warning("%s cannot be compiled and runs without, which is slower: %s", self.function.__name__, reason)
            return self.function(*arguments)

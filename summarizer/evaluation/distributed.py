"""Rows shared out over the processes of a job, and their results brought together."""

from __future__ import annotations

from typing import Any

import torch.distributed


def in_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank_and_world_size() -> tuple[int, int]:
    """(0, 1) where there is one process only."""
    return (torch.distributed.get_rank(), torch.distributed.get_world_size()) if in_group() else (0, 1)


def gather(mine: list[Any]) -> list[Any]:
    """The lists of all ranks, joined in rank order, on every rank."""
    if not in_group():
        return mine
    everyone: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everyone, mine)
    return [item for part in everyone for item in part]

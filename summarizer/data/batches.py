"""Which documents go into which forward pass: batches of similar length under a budget, the same for every rank.

The whole of training is one list of batches, a pure function of (lengths, sizes, seed), so that a position in it is one
number and resuming is skipping. Documents are bucketed by length within windows of the shuffled order, which costs
little padding and keeps batches random (Ott et al. 2018, arXiv 1806.00187, describe the token budget).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

WINDOW = 100  # batches' worth of documents sorted together: little padding, while an epoch stays well mixed


@dataclass(frozen=True)
class BatchLimits:
    """What one forward pass on one device may hold: documents, and padded source + target tokens."""

    documents: int
    tokens: int


def cut(
    order: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray, limits: BatchLimits
) -> list[np.ndarray]:
    """Cut an order of documents into consecutive batches within the limits.

    Args:
        order: [n] indices of documents, those of like length next to each other.
        source_lengths, target_lengths: tokens of every document of the corpus.

    Returns:
        Batches of at least one document; a single document over the token limit gets a batch of its own.
    """
    batches, start, longest_source, longest_target = [], 0, 0, 0
    for position, index in enumerate(order):
        source, target = int(source_lengths[index]), int(target_lengths[index])
        longest_source, longest_target = max(longest_source, source), max(longest_target, target)
        size = position - start + 1
        if size > 1 and (size > limits.documents or size * (longest_source + longest_target) > limits.tokens):
            batches.append(order[start:position])
            start, longest_source, longest_target = position, source, target
    batches.append(order[start:])
    return [batch for batch in batches if len(batch)]


def shared_evenly(batches: list[np.ndarray], world_size: int) -> list[np.ndarray]:
    """Halve the largest batches until their number divides among the ranks: each document once, no rank idle.

    Where every batch is a single document already, the last ones are joined instead, over the limits if need be. A
    corpus of fewer documents than ranks cannot be shared at all; its batches are returned as they are.
    """
    batches = list(batches)
    while len(batches) % world_size and max(map(len, batches)) > 1:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        half = len(batches[largest]) // 2
        batches[largest : largest + 1] = [batches[largest][:half], batches[largest][half:]]
    while len(batches) % world_size and len(batches) > world_size:
        batches[-2:] = [np.concatenate(batches[-2:])]
    return batches


def epoch_batches(
    source_lengths: np.ndarray,
    target_lengths: np.ndarray,
    limits: BatchLimits,
    *,
    seed: int,
    epoch: int,
    world_size: int = 1,
) -> list[np.ndarray]:
    """One epoch's batches in the order they are trained on; rank r takes every `world_size`-th from r on."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(source_lengths))
    window = WINDOW * limits.documents
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        # a stable sort of a shuffled part: documents of equal length stay in random order
        by_length = part[np.lexsort((target_lengths[part], source_lengths[part]))]
        batches += cut(by_length, source_lengths, target_lengths, limits)
    batches = shared_evenly(batches, world_size)
    # ranks step together: neighbors in length go to the ranks of one step, and the steps are shuffled
    steps = [batches[i : i + world_size] for i in range(0, len(batches), world_size)]
    return [batch for step in rng.permutation(len(steps)) for batch in steps[step]]


class EpochPlans:
    """All forward passes of a rank in a run, as a batch sampler of `torch.utils.data.DataLoader`: each a list of documents.

    Args:
        plan: epoch -> the passes of all ranks, those of one step next to each other; a pure function.

    Attributes:
        start: passes of this rank to skip: the position a resumed run continues from.
    """

    def __init__(
        self, plan: Callable[[int], list[np.ndarray]], *, epochs: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._plan, self._rank, self._world_size = plan, rank, world_size
        self._planned: tuple[int, list[np.ndarray]] | None = None
        self.start = 0
        self.per_epoch = [len(self.epoch(epoch)) for epoch in range(epochs)]

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """This rank's passes of one epoch; the last one asked for is kept, because planning takes a second a million."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self._plan(epoch)[self._rank :: self._world_size]
        return self._planned[1]

    def __len__(self) -> int:
        return sum(self.per_epoch)

    def __iter__(self) -> Iterator[list[int]]:
        skip = self.start
        for epoch, count in enumerate(self.per_epoch):
            if skip >= count:
                skip -= count
                continue
            for documents in self.epoch(epoch)[skip:]:
                yield documents.tolist()
            skip = 0


class TrainingBatches(EpochPlans):
    """Batches of documents of similar length, padded to the longest."""

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        limits: BatchLimits,
        *,
        seed: int,
        epochs: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        def plan(epoch: int) -> list[np.ndarray]:
            return epoch_batches(source_lengths, target_lengths, limits, seed=seed, epoch=epoch, world_size=world_size)

        super().__init__(plan, epochs=epochs, rank=rank, world_size=world_size)


def evaluation_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, limits: BatchLimits, *, rank: int = 0, world_size: int = 1
) -> list[np.ndarray]:
    """Every document once over all ranks, longest first, so that a batch too large fails at once and not at the end.

    All ranks get the same number of batches, as in training: a forward pass of a sharded model is one of all of them.
    """
    order = np.lexsort((target_lengths, source_lengths))[::-1]
    if not len(order):
        return []
    return shared_evenly(cut(order, source_lengths, target_lengths, limits), world_size)[rank::world_size]

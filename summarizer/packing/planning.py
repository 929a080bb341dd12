"""Which documents share a pack: first fit under three budgets, the same list for every rank, each once an epoch.

The whole of training is one list of packs, a pure function of (lengths, budget, seed), like the batches of
`summarizer.data.batches`: resuming is skipping. First fit over a short window of the shuffled order (Johnson 1973)
fills packs to within a percent or two and moves no document far from where the shuffle put it.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import numpy as np

from summarizer.data.batches import EpochPlans

log = logging.getLogger(__name__)

WINDOW = 256  # documents looked at for a place, and at least two packs' worth: enough for 99 % full packs
ROUNDING = 64  # budgets are multiples of it: kernels work in tiles of 64 rows
SLACK = 1.02  # room above the mean, so that a pack of average documents is not one document short


@dataclass(frozen=True)
class PackBudget:
    """What one pack holds at most, in tokens and documents; also the static shape of its tensors."""

    source_tokens: int
    target_tokens: int
    documents: int
    longest_source: int
    """Tokens of the longest source that can occur; the tail of a pack is cut into dummy documents of at most this."""
    longest_target: int

    @property
    def slots(self) -> int:
        """Entries for documents in a pack's tensors: real ones, and dummies that take up the tail."""
        tail = max(
            math.ceil(self.source_tokens / self.longest_source), math.ceil(self.target_tokens / self.longest_target)
        )
        return self.documents + tail


def rounded(tokens: float) -> int:
    return max(ROUNDING, math.ceil(tokens / ROUNDING) * ROUNDING)


def choose_budget(
    source_lengths: np.ndarray,
    target_lengths: np.ndarray,
    *,
    source_tokens: int | None = None,
    documents: int | None = None,
) -> PackBudget:
    """A budget whose three limits are reached at about the same time by this corpus.

    Args:
        source_lengths, target_lengths: [documents] tokens of each.
        source_tokens: wanted source tokens in a pack.
        documents: wanted documents in a pack, at most; one of the two must be given, and the smaller pack wins.

    A corpus with a document longer than the pack gets a pack that holds it, with a warning that names the cost.
    """
    assert source_tokens is not None or documents is not None, "a budget needs source tokens or documents"
    mean_source, mean_target = float(np.mean(source_lengths)), float(np.mean(target_lengths))
    longest_source, longest_target = int(np.max(source_lengths)), int(np.max(target_lengths))
    tokens = math.inf if source_tokens is None else float(source_tokens)
    if documents is not None:
        tokens = min(tokens, documents * mean_source * SLACK)
    if longest_source > tokens:
        log.warning(
            "the longest document has %d tokens, a pack only %d: packs are made that long and take more memory",
            longest_source,
            int(tokens),
        )
    source = rounded(max(tokens, longest_source))
    likely = source / mean_source  # documents in a full pack
    target = rounded(max(likely * mean_target * SLACK * SLACK, longest_target))
    # the number of documents varies from pack to pack; it must not be what ends a pack of short ones, unless asked for
    most = documents if documents is not None else math.ceil(1.5 * likely)
    return PackBudget(source, target, max(1, most), longest_source, longest_target)


def plan_packs(
    order: np.ndarray, source_lengths: np.ndarray, target_lengths: np.ndarray, budget: PackBudget
) -> list[np.ndarray]:
    """Fill packs from an order of documents by first fit over a window.

    Args:
        order: [n] indices of documents.
        source_lengths, target_lengths: tokens of every document of the corpus; none above the budget.

    Returns:
        Packs of document indices; every index of `order` once.
    """
    assert not len(order) or int(source_lengths[order].max()) <= budget.source_tokens, (
        "a document is longer than a pack"
    )
    assert not len(order) or int(target_lengths[order].max()) <= budget.target_tokens, "a summary is longer than a pack"
    packs: list[np.ndarray] = []
    waiting: list[int] = []
    window = max(WINDOW, 2 * budget.documents)
    supply = iter(order.tolist())
    exhausted = False
    while True:
        while not exhausted and len(waiting) < window:
            document = next(supply, None)
            exhausted = document is None
            if document is not None:
                waiting.append(document)
        if not waiting:
            return packs
        taken: list[int] = []
        left: list[int] = []
        source_room, target_room = budget.source_tokens, budget.target_tokens
        for document in waiting:
            source, target = int(source_lengths[document]), int(target_lengths[document])
            if source <= source_room and target <= target_room and len(taken) < budget.documents:
                taken.append(document)
                source_room, target_room = source_room - source, target_room - target
            else:
                left.append(document)
        packs.append(np.array(taken, dtype=np.int64))
        waiting = left


def shared_evenly(packs: list[np.ndarray], source_lengths: np.ndarray, world_size: int) -> list[np.ndarray]:
    """Halve the largest packs until their number divides among the ranks: every rank takes the same number of steps.

    Where every pack is a single document already, empty ones fill up the last step. A corpus of fewer documents than
    ranks cannot be shared at all; its packs are returned as they are.
    """
    packs = list(packs)
    while len(packs) % world_size and max(map(len, packs)) > 1:
        largest = max(range(len(packs)), key=lambda i: (len(packs[i]) > 1, int(source_lengths[packs[i]].sum())))
        half = len(packs[largest]) // 2
        packs[largest : largest + 1] = [packs[largest][:half], packs[largest][half:]]
    if len(packs) > world_size:
        packs += [np.array([], dtype=np.int64)] * (-len(packs) % world_size)
    return packs


def epoch_packs(
    source_lengths: np.ndarray,
    target_lengths: np.ndarray,
    budget: PackBudget,
    *,
    seed: int,
    epoch: int,
    world_size: int = 1,
) -> list[np.ndarray]:
    """One epoch's packs in the order they are trained on; rank r takes every `world_size`-th from r on.

    The packs of one step hold about the same work on every rank: they are sorted by attention cost within a few steps'
    worth before they are dealt out, and the steps are shuffled.
    """
    rng = np.random.default_rng((seed, epoch))
    packs = plan_packs(rng.permutation(len(source_lengths)), source_lengths, target_lengths, budget)
    packs = shared_evenly(packs, source_lengths, world_size)
    if world_size > 1:
        lengths = source_lengths.astype(np.float64)
        packs.sort(key=lambda pack: float((lengths[pack] ** 2).sum()))
    steps = [packs[i : i + world_size] for i in range(0, len(packs), world_size)]
    return [pack for step in rng.permutation(len(steps)) for pack in steps[step]]


class TrainingPacks(EpochPlans):
    """Packs of a budget, each document once an epoch."""

    def __init__(
        self,
        source_lengths: np.ndarray,
        target_lengths: np.ndarray,
        budget: PackBudget,
        *,
        seed: int,
        epochs: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        def plan(epoch: int) -> list[np.ndarray]:
            return epoch_packs(source_lengths, target_lengths, budget, seed=seed, epoch=epoch, world_size=world_size)

        super().__init__(plan, epochs=epochs, rank=rank, world_size=world_size)


def fill_share(
    packs: list[np.ndarray], source_lengths: np.ndarray, target_lengths: np.ndarray, budget: PackBudget
) -> float:
    """Real tokens over slots of a list of packs, between 0 and 1."""
    real = sum(int(source_lengths[pack].sum() + target_lengths[pack].sum()) for pack in packs)
    return real / max(1, len(packs) * (budget.source_tokens + budget.target_tokens))

"""A streamed train split: each pair once a pass over all ranks, the same order again, a position to resume from."""

import itertools

import numpy as np
import pytest

from summarizer.data.batches import BatchLimits
from summarizer.data.datamodule import StreamedBatches
from summarizer.errors import DataError

ROWS = 1000


class Numbers:
    """A stream of pairs whose first id is their number."""

    def __init__(self, rows: int = ROWS) -> None:
        self.rows = rows

    def __iter__(self):
        for number in range(self.rows):
            yield np.full(1 + number % 7, number), np.full(2, number)


def batches(rank=0, world_size=1, start=0, rows=ROWS, seed=0):
    return iter(
        StreamedBatches(
            Numbers(rows), lambda pairs: [int(source[0]) for source, _ in pairs], BatchLimits(4, 64), seed=seed, rank=rank,
            world_size=world_size, start=start,
        )
    )  # fmt: skip


def one_pass(source, rows):
    seen = []
    while len(seen) < rows:
        seen += next(source)
    return seen


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_all_ranks_together_read_each_pair_once_a_pass(world_size):
    shares = [len(range(rank, ROWS, world_size)) for rank in range(world_size)]
    sources = [batches(rank, world_size) for rank in range(world_size)]
    for _ in range(2):
        seen = [number for source, share in zip(sources, shares, strict=True) for number in one_pass(source, share)]
        assert sorted(seen) == list(range(ROWS))


def test_the_order_is_mixed_and_another_one_in_the_next_pass_and_with_another_seed():
    source = batches()
    first, second = one_pass(source, ROWS), one_pass(source, ROWS)
    assert first != second != sorted(second)
    assert first != one_pass(batches(seed=1), ROWS)


def test_a_resumed_stream_goes_on_where_it_stopped():
    whole = list(itertools.islice(batches(), 700))  # over two passes
    assert list(itertools.islice(batches(start=311), 389)) == whole[311:]


def test_batches_stay_within_their_limits():
    for batch in itertools.islice(batches(), 300):
        assert 0 < len(batch) <= 4
        assert len(batch) * (max(1 + number % 7 for number in batch) + 2) <= 64


def test_a_stream_without_pairs_is_an_error_and_not_an_endless_wait():
    with pytest.raises(DataError, match="gave no pair"):
        next(batches(rows=0))

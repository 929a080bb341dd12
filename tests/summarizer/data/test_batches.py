"""Batches: every document once an epoch, within limits, the same on every start, shared among ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from summarizer.data.batches import BatchLimits, TrainingBatches, epoch_batches, evaluation_batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=200).map(lambda x: np.array(x, dtype=np.int32))


@given(LENGTHS, st.integers(1, 8), st.integers(80, 300), st.integers(1, 4), st.integers(0, 3))
def test_each_document_is_trained_on_once_an_epoch_over_all_ranks(lengths, documents, tokens, world_size, epoch):
    targets = np.minimum(lengths, 20)
    ranks = [
        TrainingBatches(
            lengths, targets, BatchLimits(documents, tokens), seed=1, epochs=4, rank=r, world_size=world_size
        ).epoch(epoch)
        for r in range(world_size)
    ]
    seen = sorted(int(i) for batches in ranks for batch in batches for i in batch)
    assert seen == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 4))
def test_ranks_take_the_same_number_of_steps(lengths, world_size):
    counts = {
        len(TrainingBatches(lengths, lengths, BatchLimits(4, 200), seed=0, epochs=2, rank=r, world_size=world_size))
        for r in range(world_size)
    }
    assert len(counts) == 1 or len(lengths) < world_size


@given(LENGTHS, st.integers(1, 8), st.integers(80, 300))
def test_a_batch_holds_no_more_than_its_limits_unless_it_is_one_document(lengths, documents, tokens):
    for batch in epoch_batches(lengths, lengths, BatchLimits(documents, tokens), seed=0, epoch=0):
        padded = len(batch) * 2 * int(lengths[batch].max())
        assert len(batch) <= documents
        assert padded <= tokens or len(batch) == 1


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_skipping_batches_continues_the_very_same_list(start):
    lengths = np.random.default_rng(0).integers(5, 60, 100).astype(np.int32)
    whole = TrainingBatches(lengths, lengths, BatchLimits(8, 1000), seed=3, epochs=3)
    resumed = TrainingBatches(lengths, lengths, BatchLimits(8, 1000), seed=3, epochs=3)
    resumed.start = start
    assert list(resumed) == list(whole)[start:]
    assert len(resumed) == len(whole)


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(5, 60, 100).astype(np.int32)

    def order(seed, epoch):
        return [tuple(b) for b in epoch_batches(lengths, lengths, BatchLimits(8, 1000), seed=seed, epoch=epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_documents_of_like_length_are_together_so_little_is_padded():
    lengths = np.random.default_rng(0).lognormal(4, 0.7, 5000).clip(5, 500).astype(np.int32)
    batches = epoch_batches(lengths, lengths, BatchLimits(32, 100_000), seed=0, epoch=0)
    slots = sum(len(b) * int(lengths[b].max()) for b in batches)
    assert lengths.sum() / slots > 0.9


@given(LENGTHS, st.integers(1, 9), st.integers(60, 300), st.integers(1, 8))
def test_ranks_validate_the_same_number_of_batches_and_each_document_once(lengths, documents, tokens, world_size):
    limits = BatchLimits(documents, tokens)
    ranks = [evaluation_batches(lengths, lengths, limits, rank=r, world_size=world_size) for r in range(world_size)]
    assert sorted(int(i) for batches in ranks for batch in batches for i in batch) == list(range(len(lengths)))
    if len(lengths) >= world_size:
        assert len({len(batches) for batches in ranks}) == 1
    if world_size == 1:
        assert all(len(b) <= documents and (len(b) == 1 or 2 * len(b) * max(lengths[b]) <= tokens) for b in ranks[0])


def test_evaluation_sees_each_document_once_over_all_ranks_longest_first():
    lengths = np.random.default_rng(0).integers(5, 60, 101).astype(np.int32)
    parts = [evaluation_batches(lengths, lengths, BatchLimits(8, 1000), rank=r, world_size=3) for r in range(3)]
    assert sorted(int(i) for part in parts for b in part for i in b) == list(range(101))
    firsts = [int(lengths[b[0]]) for b in parts[0]]
    assert firsts == sorted(firsts, reverse=True)

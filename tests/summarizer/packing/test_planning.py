"""Packs: every document once an epoch, within budgets, the same on every start, shared among ranks; nearly full."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from summarizer.packing.planning import TrainingPacks, choose_budget, epoch_packs, fill_share

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=150).map(lambda x: np.array(x, dtype=np.int32))


@given(LENGTHS, st.integers(60, 300), st.integers(1, 4), st.integers(0, 3))
def test_each_document_is_trained_on_once_an_epoch_over_all_ranks(lengths, tokens, world_size, epoch):
    targets = np.minimum(lengths, 20)
    budget = choose_budget(lengths, targets, source_tokens=tokens)
    ranks = [
        TrainingPacks(lengths, targets, budget, seed=1, epochs=4, rank=rank, world_size=world_size).epoch(epoch)
        for rank in range(world_size)
    ]
    assert sorted(int(i) for packs in ranks for pack in packs for i in pack) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 4))
def test_ranks_take_the_same_number_of_steps(lengths, world_size):
    budget = choose_budget(lengths, lengths, source_tokens=100)
    counts = {
        len(TrainingPacks(lengths, lengths, budget, seed=0, epochs=2, rank=rank, world_size=world_size))
        for rank in range(world_size)
    }
    assert len(counts) == 1 or len(lengths) < world_size


def test_an_odd_number_of_packs_that_cannot_be_halved_is_filled_up_with_an_empty_one():
    lengths = np.array([60, 60, 60])
    budget = choose_budget(lengths, lengths, source_tokens=64)
    packs = epoch_packs(lengths, lengths, budget, seed=0, epoch=0, world_size=2)
    assert sorted(map(len, packs)) == [0, 1, 1, 1]
    assert all(len(packs[i]) + len(packs[i + 1]) for i in (0, 2))  # no step without a document


@given(LENGTHS, st.integers(60, 300), st.integers(1, 9))
def test_a_pack_stays_within_its_three_budgets(lengths, tokens, documents):
    targets = np.minimum(lengths, 20)
    budget = choose_budget(lengths, targets, source_tokens=tokens, documents=documents)
    assert budget.documents == documents
    for pack in epoch_packs(lengths, targets, budget, seed=0, epoch=0):
        assert 1 <= len(pack) <= budget.documents
        assert lengths[pack].sum() <= budget.source_tokens
        assert targets[pack].sum() <= budget.target_tokens


@pytest.mark.parametrize("start", [0, 1, 7, 23])
def test_skipping_packs_continues_the_very_same_list(start):
    lengths = np.random.default_rng(0).integers(5, 60, 300).astype(np.int32)
    budget = choose_budget(lengths, lengths, source_tokens=400)
    whole, resumed = (TrainingPacks(lengths, lengths, budget, seed=3, epochs=3) for _ in range(2))
    resumed.start = start
    assert list(resumed) == list(whole)[start:]
    assert len(resumed) == len(whole)


def test_news_lengths_fill_packs_to_97_percent():
    rng = np.random.default_rng(0)
    sources = rng.lognormal(6.7, 0.5, 5000).clip(16, 1024).astype(np.int32)
    targets = rng.lognormal(4.1, 0.35, 5000).clip(4, 128).astype(np.int32)
    budget = choose_budget(sources, targets, source_tokens=32768)
    packs = epoch_packs(sources, targets, budget, seed=0, epoch=0)
    assert fill_share(packs[:-3], sources, targets, budget) > 0.95
    assert fill_share(packs, sources, targets, budget) > 0.93


def test_ranks_of_one_step_do_about_the_same_work():
    lengths = np.random.default_rng(0).lognormal(4, 0.7, 4000).clip(5, 500).astype(np.int32)
    budget = choose_budget(lengths, lengths, source_tokens=4000)
    packs = epoch_packs(lengths, lengths, budget, seed=0, epoch=0, world_size=4)
    work = np.array([(lengths[pack].astype(float) ** 2).sum() for pack in packs]).reshape(-1, 4)
    assert np.median(work.max(1) / work.mean(1)) < 1.05


def test_a_document_longer_than_a_pack_makes_packs_longer_and_says_so(caplog):
    lengths = np.array([10, 20, 900], dtype=np.int32)
    with caplog.at_level(logging.WARNING):
        budget = choose_budget(lengths, lengths // 2, source_tokens=64)
    assert budget.source_tokens >= 900
    assert "900 tokens" in caplog.text
    assert len(caplog.records) == 1


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(5, 60, 100).astype(np.int32)
    budget = choose_budget(lengths, lengths, source_tokens=300)

    def order(seed, epoch):
        return [tuple(pack) for pack in epoch_packs(lengths, lengths, budget, seed=seed, epoch=epoch)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


def test_packs_of_many_short_documents_are_as_full_as_those_of_few_long_ones():
    lengths = np.random.default_rng(0).integers(20, 120, 6000)
    budget = choose_budget(lengths, lengths // 4, source_tokens=30_000)  # 430 documents a pack
    packs = epoch_packs(lengths, lengths // 4, budget, seed=0, epoch=0)
    assert fill_share(packs[:-1], lengths, lengths // 4, budget) > 0.97

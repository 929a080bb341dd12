"""A pack's tensors: documents end to end, positions anew in each, labels for summaries only, static shapes."""

import numpy as np

from summarizer.packing.collate import IGNORED, PackedCausalCollator, PackedSeq2SeqCollator
from summarizer.packing.planning import PackBudget
from tests.summarizer.packing.tiny import documents

BUDGET = PackBudget(source_tokens=64, target_tokens=64, documents=4, longest_source=20, longest_target=12)


def test_documents_lie_end_to_end_and_positions_start_anew():
    pairs = [(np.array([5, 6, 7]), np.array([8, 9])), (np.array([10, 11]), np.array([12, 13, 14]))]
    pack = PackedSeq2SeqCollator(BUDGET, pad_token_id=0, start_token_id=3)(pairs)
    assert pack["source_ids"][:6].tolist() == [5, 6, 7, 10, 11, 0]
    assert pack["source_positions"][:6].tolist() == [0, 1, 2, 0, 1, 0]
    assert pack["source_offsets"][:4].tolist() == [0, 3, 5, 25]
    assert pack["target_ids"][:5].tolist() == [3, 8, 3, 12, 13]
    assert pack["labels"][:6].tolist() == [8, 9, 12, 13, 14, IGNORED]
    assert (pack["documents"], pack["tokens"], pack["slots"]) == (2, 10, 128)


def test_without_a_start_token_the_summary_begins_with_its_last():
    pack = PackedSeq2SeqCollator(BUDGET, pad_token_id=0, start_token_id=None)([(np.array([5]), np.array([8, 9, 2]))])
    assert pack["target_ids"][:3].tolist() == [2, 8, 9]


def test_every_pack_has_the_same_shapes_and_every_row_a_document():
    collate = PackedSeq2SeqCollator(BUDGET, 0, 0)
    packs = [collate(documents(count, seed=count, longest_source=16, longest_target=8)) for count in (1, 2, 4)]
    for name in ("source_ids", "source_offsets", "target_ids", "target_offsets", "labels"):
        assert len({tuple(pack[name].shape) for pack in packs}) == 1
    for pack in packs:
        assert pack["source_offsets"][-1] == BUDGET.source_tokens
        assert pack["target_offsets"][-1] == BUDGET.target_tokens
        assert pack["source_offsets"].diff().max() <= BUDGET.longest_source
        assert pack["source_positions"].max() < BUDGET.longest_source


def test_a_causal_pack_asks_for_the_summary_only():
    pairs = [(np.array([5, 6, 7]), np.array([8, 9])), (np.array([10]), np.array([12, 13, 14]))]
    pack = PackedCausalCollator(BUDGET, pad_token_id=0)(pairs)
    assert pack["input_ids"][:9].tolist() == [5, 6, 7, 8, 9, 10, 12, 13, 14]
    assert pack["labels"][:6].tolist() == [8, 9, 12, 13, 14, IGNORED]
    rows = pack["label_rows"][:5].tolist()
    assert rows == [2, 3, 5, 6, 7]
    assert pack["input_ids"][[row + 1 for row in rows]].tolist() == [8, 9, 12, 13, 14]

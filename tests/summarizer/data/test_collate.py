"""Rows of ids as the tensors of a batch, and where a split's rows lie."""

from __future__ import annotations

import datasets
import numpy as np
import pyarrow as pa
import pytest

from summarizer.data.collate import IGNORED, CausalCollator, Seq2SeqCollator, padded
from summarizer.data.tokenized import TokenizedSplit

ROWS = [np.array(row, dtype=np.int32) for row in ([5, 6, 7], [], [8], [9, 9, 9, 9, 9])]


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("multiple", [1, 4])
def test_rows_are_filled_up_on_one_side_to_a_multiple(left, multiple):
    found = padded(ROWS, -1, left=left, multiple=multiple).tolist()
    width = {1: 5, 4: 8}[multiple]
    for row, ids in zip(found, ROWS, strict=True):
        filling = [-1] * (width - len(ids))
        assert row == (filling + ids.tolist() if left else ids.tolist() + filling)


def test_a_batch_counts_its_tokens_and_what_attention_costs():
    batch = Seq2SeqCollator(0, 8, target_multiple=2)([(ROWS[0], ROWS[2]), (ROWS[3], ROWS[0])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 0, 0, 0, 0, 0], [9, 9, 9, 9, 9, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0, 0]]
    assert batch["labels"].tolist() == [[8, IGNORED, IGNORED, IGNORED], [5, 6, 7, IGNORED]]
    assert (batch["documents"], batch["tokens"], batch["slots"]) == (2, 12, 24)
    assert batch["length_sums"] == (8, 4, 34, 10, 18)
    assert all(type(number) is int for number in batch["length_sums"])


def test_a_decoder_only_batch_learns_the_summary_only():
    batch = CausalCollator(0)([(ROWS[0], ROWS[2]), (ROWS[2], ROWS[0])])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8], [8, 5, 6, 7]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, IGNORED, 8], [IGNORED, 5, 6, 7]]


def test_several_rows_of_a_split_are_each_row_of_it_across_chunks(tmp_path):
    columns = {name: pa.array([row.tolist() for row in rows], pa.list_(pa.int32())) for name, rows in
               (("source", ROWS), ("target", ROWS[::-1]))}  # fmt: skip
    table = pa.table(columns)
    with pa.OSFile(str(tmp_path / "tokens.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=3)
        stream.write_table(table, max_chunksize=2)
    split = TokenizedSplit(tmp_path, datasets.Dataset.from_dict({"id": list(range(8))}))
    rows = [7, 0, 3, 3, 4, 6]
    for row, (source, target) in zip(rows, split.pairs(rows), strict=True):
        assert source.tolist() == split.source(row).tolist() == ROWS[row % 4].tolist()
        assert target.tolist() == split.target(row).tolist() == ROWS[::-1][row % 4].tolist()
    assert split.pairs([]) == []
    for beyond in ([0, 8], [-1]):
        with pytest.raises(IndexError):
            split.pairs(beyond)

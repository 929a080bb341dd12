"""What a run says of its speed: MFU by the same arithmetic as the benchmark."""

from __future__ import annotations

import numpy as np
import pytest

from summarizer.data.collate import Seq2SeqCollator
from summarizer.packing.arithmetic import training_arithmetic, training_flops
from summarizer.training.throughput import Throughput
from tests.summarizer.packing.tiny import documents, model_of


def test_a_batch_carries_what_its_arithmetic_needs():
    model, pairs = model_of("t5"), documents(5, seed=0, longest_source=16, longest_target=8)
    batch = Seq2SeqCollator(pad_token_id=0)(pairs)
    source, target = ([len(pair[side]) for pair in pairs] for side in (0, 1))
    expected = training_flops(model, np.array(source), np.array(target))
    assert training_arithmetic(model) @ batch["length_sums"] == pytest.approx(expected)


def test_mfu_is_operations_a_second_by_the_peak_and_survives_a_restart():
    meter = Throughput(np.ones(5), peak=100.0)
    meter.load_state_dict({"totals": {"tokens": 8.0, "slots": 10.0, "seconds": 2.0, "operations": 60.0}})
    assert meter.summary()["train/mfu"] == pytest.approx(0.3)
    assert meter.summary()["train/non_padding_share"] == pytest.approx(0.8)


def test_no_mfu_where_the_card_is_unknown():
    meter = Throughput()
    meter.load_state_dict({"totals": {"tokens": 8.0, "slots": 10.0, "seconds": 2.0}})
    assert "train/mfu" not in meter.summary()

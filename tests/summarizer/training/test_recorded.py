"""Steps by shape, as a card records them: the losses, gradients and trainings of steps that are launched operation by operation."""

from __future__ import annotations

import copy
import logging

import torch

from summarizer.data.collate import Seq2SeqCollator
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.packing import graphs
from summarizer.packing.graphs import RecordedLoss
from tests.summarizer.packing.tiny import documents

SHAPE = {"vocab_size": 97, "d_model": 32, "d_ff": 48, "num_heads": 4, "dropout": 0.1}
HIDING = {"source_dropout": 0.3, "target_dropout": 0.2, "restoration_weight": 0.5}
NAMES = ("input_ids", "attention_mask", "labels")


def build():
    torch.manual_seed(0)
    return CopyTransformerForConditionalGeneration(CopyTransformerConfig(**SHAPE, **HIDING)).train()


def loss_of(model):
    return lambda batch: model(**{name: batch[name] for name in NAMES}, static_shapes=True).loss


def batches(rows=4, count=8):
    collate = Seq2SeqCollator(0, 16, target_multiple=4)
    pairs = documents(rows * count, seed=3)
    return [collate(pairs[i : i + rows]) for i in range(0, len(pairs), rows)]


def trained(model, loss, passes=1):
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)  # AdamW makes steps of rounding
    losses = []
    for i, batch in enumerate(batches() * 3):
        value = loss(batch)
        (value / passes).backward()
        losses.append(float(value.detach()))
        if i % passes == passes - 1:
            optimizer.step()
            optimizer.zero_grad()
    return losses, torch.rand(())


def test_recorded_steps_train_as_launched_ones_do_with_what_is_drawn_at_random():
    for passes in (1, 3):  # of several shapes, whose gradients add up to a step
        plain, recorded = build(), build()
        loss = RecordedLoss(loss_of(recorded), list(recorded.parameters()), frequent=1)
        (expected, after), (found, after_too) = trained(plain, loss_of(plain), passes), trained(recorded, loss, passes)
        assert len(loss.recordings) > 2
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-5)
        for one, other in zip(plain.parameters(), recorded.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
        assert after.equal(after_too)


def test_shapes_that_come_up_seldom_and_more_than_are_kept_are_launched(monkeypatch):
    monkeypatch.setattr(graphs, "MOST_SHAPES", 2)
    model = build()
    loss = RecordedLoss(loss_of(model), list(model.parameters()), frequent=2)
    collate, pairs = Seq2SeqCollator(0, 64, target_multiple=4), documents(40, seed=3, longest_target=4)
    for rows, recordings in [(4, 0), (4, 0), (5, 0), (4, 1), (5, 1), (5, 2), (6, 2), (6, 2), (6, 2)]:
        loss(collate(pairs[:rows])).backward()
        assert len(loss.recordings) == recordings


def test_what_cannot_be_recorded_is_launched_with_one_warning(monkeypatch, caplog):
    def refuse(*arguments):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(RecordedLoss, "_recorded", refuse)
    model = build()
    plain = copy.deepcopy(model)
    loss = RecordedLoss(loss_of(model), list(model.parameters()))
    with caplog.at_level(logging.WARNING):
        for batch in batches(count=3):
            torch.manual_seed(0)
            loss(batch).backward()
            torch.manual_seed(0)
            loss_of(plain)(batch).backward()
    assert len(caplog.records) == 1
    assert "not permitted" in caplog.text
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_a_recording_in_autocast_reads_the_weights_of_each_step():
    model = build()
    batch = batches(count=1)[0]
    loss = RecordedLoss(loss_of(model), list(model.parameters()), compute=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):  # as Lightning wraps a step, with a cache of cast weights
        torch.manual_seed(0)
        before = loss(batch).detach()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.5)
        torch.manual_seed(0)
        after = loss(batch).detach()
        torch.manual_seed(0)
        fresh = RecordedLoss(loss_of(model), list(model.parameters()), compute=torch.bfloat16)(batch).detach()
    assert after == fresh != before

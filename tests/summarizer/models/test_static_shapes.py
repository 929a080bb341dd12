"""A copy transformer's loss of fixed shapes, as a card computes it, is the loss of the places that count."""

from __future__ import annotations

import copy

import pytest
import torch

from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.places import Places
from tests.summarizer.numerics import assert_rounds_like

SHAPE = {"vocab_size": 50, "d_model": 32, "d_ff": 48, "num_heads": 4, "dropout": 0.1}
HIDING = {"source_dropout": 0.3, "target_dropout": 0.2, "restoration_weight": 0.5}


def batch_of(rows: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids, labels = torch.randint(3, 50, (rows, 120)), torch.randint(3, 50, (rows, 7))
    for row in range(rows):
        ids[row, 20 + 9 * row :], labels[row, 1 + row :] = 0, -100
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def results(model, batch, **options):
    torch.manual_seed(2)
    model.zero_grad()
    loss = model(**batch, **options).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.mark.parametrize("settings", [{}, HIDING, {**HIDING, "source_dropout": 0.999}], ids=["plain", "hiding", "most"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_static_shapes_give_the_same_loss_and_gradients(settings, smoothing):
    torch.manual_seed(0)
    model = CopyTransformerForConditionalGeneration(CopyTransformerConfig(**{**SHAPE, **settings})).train()
    batch = batch_of(6)
    exact = results(copy.deepcopy(model).double(), batch, label_smoothing=smoothing)
    plain, static = (results(model, batch, label_smoothing=smoothing, static_shapes=static) for static in (False, True))
    for one, other, reference in zip(static, plain, exact, strict=True):
        assert_rounds_like(one, other, reference)


def test_a_batch_without_labels_has_a_static_loss_of_zero_and_finite_gradients():
    model = CopyTransformerForConditionalGeneration(CopyTransformerConfig(**SHAPE)).train()
    batch = batch_of(3)
    loss, *gradients = results(model, {**batch, "labels": torch.full_like(batch["labels"], -100)}, static_shapes=True)
    assert loss == 0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_parts_of_a_batch_take_every_hidden_input_however_unlikely_their_number():
    torch.manual_seed(0)
    config = CopyTransformerConfig(**{**SHAPE, **HIDING, "source_dropout": 0.01, "dropout": 0.0, "target_dropout": 0.0})
    model, batch = CopyTransformerForConditionalGeneration(config).train(), batch_of(4)
    hidden = {"replaced": batch["input_ids"] > 25, "replaced_targets": torch.zeros_like(batch["labels"]).bool()}
    plain, static = (results(model, {**batch, **hidden}, static_shapes=static) for static in (False, True))
    for one, other in zip(plain, static, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 1.0])
def test_static_places_are_those_that_count_in_their_order_and_not_many_more(share):
    torch.manual_seed(0)
    wanted, values = torch.rand(16, 256) < share, torch.rand(16, 256)
    static, plain = (Places(wanted, is_static=is_static, share=share) for is_static in (True, False))
    taken = static.of(values)
    assert len(taken) <= min(4096, 1.3 * 4096 * share + 200)
    assert torch.equal(taken[static.counts], plain.of(values))
    torch.testing.assert_close(static.mean(taken), plain.mean(plain.of(values)))
    torch.testing.assert_close(static.mean(taken, 7), plain.mean(plain.of(values), 7))


def test_no_more_are_counted_than_a_static_number_holds():
    every = Places(torch.ones(8, 512, dtype=torch.bool), is_static=True, share=0.01)
    taken = every.of(torch.ones(8, 512))
    assert len(taken) < 200
    assert every.counts.all()
    assert every.mean(taken) == 1

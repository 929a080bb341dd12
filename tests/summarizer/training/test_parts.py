"""A batch computed in two parts at the same time is the whole batch: its loss, its gradients, its random numbers."""

from __future__ import annotations

import copy

import pytest
import torch

from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.training.parts import PartedLoss, takes_parts, threads
from tests.summarizer.numerics import assert_rounds_like

SHAPE = {"vocab_size": 50, "d_model": 32, "d_ff": 48, "num_heads": 4, "dropout": 0.0}
HIDING = {"source_dropout": 0.3, "target_dropout": 0.2, "restoration_weight": 0.5}


@pytest.fixture(autouse=True)
def two_threads():
    with threads(2):
        yield


def build(**settings):
    torch.manual_seed(0)
    return CopyTransformerForConditionalGeneration(CopyTransformerConfig(**{**SHAPE, **settings})).train()


def batch_of(rows):
    """Documents and summaries of unlike lengths, so that the parts' means go over unlike numbers of words."""
    torch.manual_seed(1)
    ids, labels = torch.randint(3, 50, (rows, 12)), torch.randint(3, 50, (rows, 7))
    for row in range(rows):
        ids[row, 5 + row :], labels[row, 1 + row :] = 0, -100
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def results(model, batch, *, parted, label_smoothing=0.0, scale=1.0):
    """Loss, every gradient, and the number that PyTorch's generator gives next."""
    torch.manual_seed(2)
    model.zero_grad()
    own_way = PartedLoss(model, label_smoothing)
    loss = own_way(batch) if parted else model(**batch, label_smoothing=label_smoothing).loss
    (loss * scale).backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters()), torch.rand(())]


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("settings", [{}, HIDING])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_the_whole_batchs(rows, settings, smoothing):
    model, batch = build(**settings), batch_of(rows)
    for scale in (1.0, 3.0):
        options = {"label_smoothing": smoothing, "scale": scale}
        exact = results(copy.deepcopy(model).double(), batch, parted=False, **options)
        whole, parts = (results(model, batch, parted=parted, **options) for parted in (False, True))
        assert parts.pop().equal(whole.pop())
        for one, other, reference in zip(parts, whole, exact, strict=False):
            assert_rounds_like(one, other, reference)


def test_both_parts_compute_in_autocasts_type_and_a_repetition_is_the_same_to_the_bit():
    model, batch = build(**HIDING), batch_of(6)
    seen = []
    model.layers[0].feed_forward.widen.register_forward_hook(lambda layer, inputs, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        first, second = (results(model, batch, parted=True) for _ in range(2))
        whole = results(model, batch, parted=False)
    assert seen == [torch.bfloat16] * 5
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    torch.testing.assert_close(first[0], whole[0], rtol=1e-2, atol=1e-2)


def test_gradients_of_several_passes_add_up():
    model, batch = build(), batch_of(4)
    once = [gradient.clone() for gradient in results(model, batch, parted=True)[1:-1]]
    PartedLoss(model)(batch).backward()
    for gradient, parameter in zip(once, model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_threads_are_whole_again_after_a_step_and_after_an_error():
    model, batch = build(), batch_of(4)
    results(model, batch, parted=True)
    assert torch.get_num_threads() == 2
    batch["labels"][3, 0] = 50  # no word: the second part fails
    with pytest.raises((IndexError, RuntimeError)):
        results(model, batch, parted=True)
    assert torch.get_num_threads() == 2


def test_dropout_one_thread_and_other_models_take_no_parts():
    assert takes_parts(build())
    assert not takes_parts(build(dropout=0.1))
    assert not takes_parts(torch.nn.Linear(1, 1))
    with threads(1):
        assert not takes_parts(build())

"""The chunked loss is torch's cross-entropy: value and gradients, with and without smoothing, whatever the chunks."""

import pytest
import torch
from torch.nn import functional as F

from summarizer.packing import cross_entropy
from summarizer.packing.cross_entropy import linear_cross_entropy


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("chunk_rows", [7, 1000])
def test_value_and_gradients_are_those_of_torch(monkeypatch, label_smoothing, chunk_rows):
    monkeypatch.setattr(cross_entropy, "CHUNK_ROWS", chunk_rows)
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(40, 8, requires_grad=True),
        torch.randn(23, 8, requires_grad=True),
        torch.randn(23),
    )
    labels = torch.randint(0, 23, (40,)).masked_fill_(torch.rand(40) < 0.3, -100)
    results = []
    for fused in (False, True):
        hidden.grad = weight.grad = None
        if fused:
            loss = linear_cross_entropy(hidden, weight, bias, labels, label_smoothing)
        else:
            loss = F.cross_entropy(
                F.linear(hidden, weight, bias), labels, ignore_index=-100, label_smoothing=label_smoothing
            )
        (3 * loss).backward()
        results.append((loss.detach(), hidden.grad, weight.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_words_that_fill_up_a_vocabulary_of_odd_size_count_for_nothing(label_smoothing):
    torch.manual_seed(0)
    hidden, weight, bias = torch.randn(40, 8), torch.randn(23, 8), torch.randn(23)
    labels = torch.randint(0, 23, (40,))
    exact, narrow = (
        [x.to(kind).requires_grad_() for x in (hidden.bfloat16(), weight.bfloat16())]
        for kind in (torch.float32, torch.bfloat16)
    )
    expected = F.cross_entropy(F.linear(*exact, bias), labels, label_smoothing=label_smoothing)
    expected.backward()
    found = linear_cross_entropy(*narrow, bias, labels, label_smoothing)  # in bfloat16 the vocabulary is filled up
    found.backward()
    assert narrow[1].grad.shape == weight.shape
    for one, other in zip((found, *(x.grad for x in narrow)), (expected, *(x.grad for x in exact)), strict=True):
        torch.testing.assert_close(one.float(), other, atol=2e-3, rtol=3e-2)


def test_no_label_at_all_is_no_loss():
    hidden, weight = torch.randn(4, 8, requires_grad=True), torch.randn(5, 8)
    loss = linear_cross_entropy(hidden, weight, None, torch.full((4,), -100))
    loss.backward()
    assert loss == 0
    assert hidden.grad.abs().max() == 0


def test_without_gradients_none_are_made():
    with torch.no_grad():
        loss = linear_cross_entropy(
            torch.randn(4, 8), torch.nn.Parameter(torch.randn(5, 8)), None, torch.tensor([0, 1, 2, -100])
        )
    assert not loss.requires_grad

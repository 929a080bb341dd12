"""The copy transformer's own ways to attend and to score words, against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from summarizer.models.copy_transformer.layers import SHORT, attend, rotary_angles, rotate, squared_relu
from summarizer.models.copy_transformer.vocabulary import word_log_probabilities


@pytest.mark.parametrize("rows", [0, 1, 300])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_words_are_scored_as_by_a_softmax_over_all_and_so_are_its_gradients(rows, dtype, tolerance):
    torch.manual_seed(0)
    hidden, table, words = torch.randn(rows, 16), torch.randn(8000, 16) / 4, torch.randint(0, 8000, (rows,))
    weights = torch.randn(2, rows)  # of each row's two results in what is differentiated
    results = []
    for own_way in (True, False):
        inputs = [hidden.clone().requires_grad_(), table.clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16, enabled=own_way and dtype is torch.bfloat16):
            if own_way:
                own, total = word_log_probabilities(*inputs, words)
            else:
                logits = F.linear(*inputs)
                own, total = -F.cross_entropy(logits, words, reduction="none"), logits.logsumexp(-1)
        gradients = torch.autograd.grad((weights[0] * own + weights[1] * total).sum(), inputs)
        results.append((own, total, *gradients))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("keys", [7, SHORT + 1])
@pytest.mark.parametrize("kind", ["all", "padded", "rows", "causal"])
def test_attention_is_pytorchs(keys, kind):
    torch.manual_seed(0)
    queries = keys if kind == "causal" else 5
    query = torch.randn(2, 3, queries, 8, requires_grad=True)
    key, value = (torch.randn(2, 3, keys, 8, requires_grad=True) for _ in range(2))
    mask = {"padded": torch.rand(2, 1, 1, keys) < 0.7, "rows": torch.rand(queries, keys) < 0.7}.get(kind)
    if mask is not None:
        mask[..., 0] = True
    ours = attend(query, key, value, mask, causal=kind == "causal")
    theirs = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=kind == "causal")
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for one, other in zip(
        *(torch.autograd.grad(out.square().sum(), (query, key, value)) for out in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_rotation_turns_pairs_of_units_as_complex_numbers_and_its_gradient_turns_back():
    torch.manual_seed(0)
    x = torch.randn(2, 5, 2, 3, 8, requires_grad=True)
    ours = rotate(x, rotary_angles(5, 8, x, start=3))
    angles = torch.arange(3.0, 8.0)[:, None] * 10_000.0 ** (-torch.arange(4) / 4)
    turned = torch.complex(*x.chunk(2, dim=-1)) * torch.polar(torch.ones(5, 4), angles)[:, None, None]
    expected = torch.cat((turned.real, turned.imag), dim=-1)
    torch.testing.assert_close(ours, expected)
    weights = torch.randn_like(x)
    one, other = (torch.autograd.grad((out * weights).sum(), x)[0] for out in (ours, expected))
    torch.testing.assert_close(one, other)


def test_squared_relu_is_pytorchs():
    x = torch.randn(7, 9, requires_grad=True)
    results = []
    for out in (squared_relu(x), F.relu(x).square()):
        results.append((out, *torch.autograd.grad((out * torch.arange(9)).sum(), x)))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)

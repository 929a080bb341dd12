"""The operators of packed attention against document-by-document attention: outputs and every gradient.

Without a GPU the operators compute densely; `TRITON_INTERPRET=1` (with Triton installed) runs the kernels themselves.
"""

import math
import os

import pytest
import torch

from summarizer.packing import attention_ops
from summarizer.packing.attention import Bias, bias_for, choose_backend, cross_attention, self_attention, spans_of
from summarizer.packing.dense_attention import dense_attention
from summarizer.packing.dropout import fixed_numbers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
KERNELS = DEVICE == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
SOURCES, TARGETS = (200, 37, 0, 330, 64), (70, 9, 0, 33, 12)
HEADS, WIDTH, REACH = 2, 16, 128


def spans(lengths):
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(DEVICE)
    return spans_of(offsets, max(lengths), sum(lengths), "triton")


def close(one, other):
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_self_attention_and_its_gradients(causal, biased):
    torch.manual_seed(0)
    lengths = spans(SOURCES)
    qkv = torch.randn(sum(SOURCES), 3, HEADS, WIDTH, device=DEVICE, requires_grad=True)
    vector = torch.randn(HEADS, 2 * REACH + 1, device=DEVICE, requires_grad=True) if biased else None
    upstream = torch.randn(sum(SOURCES), HEADS, WIDTH, device=DEVICE)
    results = []
    for backend in ("dense", "triton"):
        qkv.grad = None
        if vector is not None:
            vector.grad = None
        bias = bias_for(vector, backend)
        out = self_attention(
            qkv, lengths, bias, causal=causal, scale=0.3, dropout=0.0, seeds=None, masks=None, site=0, backend=backend,
        )  # fmt: skip
        out.backward(upstream)
        results.append((out.detach(), qkv.grad, vector.grad if biased else torch.zeros(())))
    for one, other in zip(*results, strict=True):
        close(one, other)


def test_cross_attention_and_its_gradients():
    torch.manual_seed(0)
    q = torch.randn(sum(TARGETS), HEADS, WIDTH, device=DEVICE, requires_grad=True)
    kv = torch.randn(sum(SOURCES), 2, HEADS, WIDTH, device=DEVICE, requires_grad=True)
    results = []
    for backend in ("dense", "triton"):
        q.grad = kv.grad = None
        out = cross_attention(
            q, kv, spans(TARGETS), spans(SOURCES), scale=0.25, dropout=0.0, seeds=None, masks=None, site=0,
            backend=backend,
        )  # fmt: skip
        (out * torch.linspace(-1, 1, out.numel(), device=DEVICE).view_as(out)).sum().backward()
        results.append((out.detach(), q.grad, kv.grad))
    for one, other in zip(*results, strict=True):
        close(one, other)


def test_a_document_without_keys_gives_zeros():
    q = torch.randn(8, HEADS, WIDTH, device=DEVICE)
    kv = torch.randn(4, 2, HEADS, WIDTH, device=DEVICE)
    out = cross_attention(
        q, kv, spans((3, 5)), spans((4, 0)), scale=1.0, dropout=0.0, seeds=None, masks=None, site=0, backend="triton",
    )  # fmt: skip
    assert out[3:].abs().max() == 0
    assert out[:3].abs().max() > 0


@pytest.mark.skipif(not KERNELS, reason="hashed dropout is in the kernels: needs a GPU or TRITON_INTERPRET=1")
def test_dropout_keeps_the_mean_and_the_backward_pass_uses_the_same_mask():
    torch.manual_seed(0)
    q = torch.randn(sum(TARGETS), HEADS, WIDTH, device=DEVICE, requires_grad=True)
    kv = torch.randn(sum(SOURCES), 2, HEADS, WIDTH, device=DEVICE, requires_grad=True)

    masks = fixed_numbers(sum(SOURCES), 1, DEVICE)

    def run(seed, share=0.3):
        seeds = torch.full((8,), seed, dtype=torch.int32, device=DEVICE)
        return cross_attention(
            q, kv, spans(TARGETS), spans(SOURCES), scale=0.25, dropout=share, seeds=seeds, masks=masks, site=5,
            backend="triton",
        )  # fmt: skip

    whole = run(0, share=0.0).detach()
    mean = torch.stack([run(seed).detach() for seed in range(30)]).mean(0)
    assert (mean - whole).norm() / whole.norm() < 0.25
    out = run(7)
    assert torch.equal(out, run(7))
    assert not torch.equal(out, run(8))
    upstream = torch.randn_like(out)
    out.backward(upstream)
    # with the mask fixed, the output is linear in the values: <dV, V> = <out, upstream>
    along_values = (kv.grad[:, 1] * kv[:, 1]).sum()
    close(along_values, (out * upstream).sum())
    # and smooth in the queries: a small step changes the output by the gradient
    with torch.no_grad():
        step = 1e-2 * torch.randn_like(q)
        before = (run(7) * upstream).sum()
        q += step
        after = (run(7) * upstream).sum()
    assert abs((after - before) - (q.grad * step).sum()) < 0.1 * (q.grad * step).abs().sum()


def test_every_block_of_every_document_is_listed_once_the_longest_first():
    offsets = torch.tensor([0, *SOURCES]).cumsum(0).to(torch.int32)
    blocks = attention_ops.row_blocks(offsets, sum(SOURCES), block=64).tolist()
    listed = [(document, first) for document, first in blocks if document >= 0]
    assert sorted(listed) == [(i, first) for i, length in enumerate(SOURCES) for first in range(0, length, 64)]
    assert [SOURCES[document] for document, _ in listed] == sorted(
        (SOURCES[document] for document, _ in listed), reverse=True
    )
    # as many as any five documents of so many rows can have: a recorded step keeps its shape
    assert len(blocks) == sum(SOURCES) // 64 + len(SOURCES)


def test_bias_tiles_are_the_bias_by_distance():
    vector = torch.randn(1, 2 * 40 + 1)
    tiles = attention_ops.bias_tiles(vector, block=16)
    wide = attention_ops.near_tiles(40, block=16)
    assert tiles.shape == (1, 2 * wide - 1, 16, 16)
    for blocks, row, column in [(0, 3, 9), (1, 0, 15), (-2, 15, 0), (wide - 1, 7, 7)]:
        distance = max(-40, min(40, blocks * 16 + column - row))
        expected = vector[0, distance + 40] * math.log2(math.e)
        torch.testing.assert_close(tiles[0, blocks + wide - 1, row, column], expected)


def test_grouped_heads_share_their_keys():
    q, kv = torch.randn(7, 4, 8), torch.randn(7, 2, 2, 8)
    offsets = spans((4, 3)).offsets.cpu()
    grouped = dense_attention(q, *kv.unbind(1), offsets, offsets, causal=True, scale=1.0)
    repeated = dense_attention(q, *kv.repeat_interleave(2, 2).unbind(1), offsets, offsets, causal=True, scale=1.0)
    torch.testing.assert_close(grouped, repeated)


def test_the_cpu_computes_densely_and_needs_no_warning():
    assert choose_backend(torch.device("cpu"), 64, torch.float32, biased=True) == ("dense", None)
    assert isinstance(bias_for(torch.zeros(2, 5), "dense"), Bias)

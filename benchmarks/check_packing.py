"""Is packing right on this machine, and how long do its kernels take? To be run once on a new kind of card.

    python benchmarks/check_packing.py --device cuda

Prints one JSON line a check, with the largest difference relative to the reference's largest number, and ends with an
error if one exceeds its limit:

    attention   the kernels against document-by-document attention: output and gradients, with and without T5's bias
    step        loss and gradients of a pack against transformers' padded model, float32, dropout off
    residual    the gradient in bfloat16 against float32's, with the residual stream in float32 and in bfloat16
    graph       compiled and recorded against plain, same masks of dropout
    search      tokens of the packed search against generate(), float32
    kernel      milliseconds of one layer's attention, forward and with backward, t5-base's heads, 32,768 tokens
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import generate_throughput, shapes
from summarizer.packing.anatomy import start_token
from summarizer.packing.attention import Spans, bias_for, cross_attention, self_attention, spans_of
from summarizer.packing.collate import PackedSeq2SeqCollator, offsets_of
from summarizer.packing.dropout import fixed_numbers
from summarizer.packing.graphs import RecordedLoss
from summarizer.packing.planning import PackBudget
from summarizer.packing.seq2seq import PackedSeq2Seq

failed: list[str] = []


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    sizes = [float(b.float().abs().max()) for b in expected]
    # a gradient that is zero but for rounding (a bias of keys) is measured against the others
    floor = 1e-3 * max(sizes)
    distances = [float((a.float() - b.float()).abs().max()) for a, b in zip(found, expected, strict=True)]
    return max(distance / max(size, floor) for distance, size in zip(distances, sizes, strict=True))


def report(check: str, case: str, value: float, limit: float) -> None:
    right = value <= limit
    if not right:
        failed.append(f"{check} {case}")
    shapes.emit(check=check, case=case, difference=value, limit=limit, right=right)


def spans(lengths: Any, device: torch.device) -> Spans:
    return spans_of(offsets_of(np.asarray(lengths)).to(device), int(max(lengths)), int(sum(lengths)), "triton")


def check_attention(device: torch.device) -> None:
    sources, targets = [200, 37, 0, 330, 1024, 64, 1], [70, 9, 0, 33, 128, 12, 1]
    heads, width, reach = 3, 64, 128
    for dtype, limit in ((torch.float32, 1e-3), (torch.bfloat16, 3e-2)):
        for case in ("encoder", "decoder", "encoder with bias", "decoder with bias", "cross"):
            torch.manual_seed(0)
            biased, causal = "bias" in case, "decoder" in case
            vector = torch.randn(heads, 2 * reach + 1, device=device, requires_grad=True) if biased else None
            rows, other = spans(sources, device), spans(targets, device)
            a = torch.randn(sum(sources), 3, heads, width, device=device).to(dtype).requires_grad_()
            q = torch.randn(sum(targets), heads, width, device=device).to(dtype).requires_grad_()
            results = []
            for backend, kind in (("dense", torch.float32), ("triton", dtype)):
                leaves = [x.detach().to(kind).requires_grad_() for x in (a, q)]
                bias = None if vector is None else bias_for(vector, backend)
                options: dict[str, Any] = {"scale": 0.125, "dropout": 0.0, "backend": backend}
                options |= {"seeds": None, "masks": None, "site": 0}
                if case == "cross":
                    out = cross_attention(leaves[1], leaves[0][:, :2], other, rows, **options)
                else:
                    out = self_attention(leaves[0], rows, bias, causal=causal, **options)
                upstream = torch.linspace(-1, 1, out.numel(), device=device).view_as(out).to(kind)
                wanted = leaves if case == "cross" else leaves[:1] + ([] if vector is None else [vector])
                results.append([out, *torch.autograd.grad(out, wanted, upstream)])
            report("attention", f"{case} {str(dtype)[6:]}", difference(results[1], results[0]), limit)


def tiny_pack(model: Any, device: torch.device) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config = model.config
    documents = shapes.Documents(*shapes.lengths("tiny", 9), config.vocab_size, config.eos_token_id)
    pairs = [documents[i] for i in range(9)]
    pack = PackedSeq2SeqCollator(PackBudget(640, 192, 9, 64, 16), config.pad_token_id, start_token(config))(pairs)
    ids = torch.full((9, 64), config.pad_token_id)
    mask, labels = torch.zeros_like(ids), torch.full((9, 16), -100)
    for i, (source, target) in enumerate(pairs):
        ids[i, : len(source)], mask[i, : len(source)] = torch.from_numpy(source), 1
        labels[i, : len(target)] = torch.from_numpy(target)
    batch = {"input_ids": ids.to(device), "attention_mask": mask.to(device), "labels": labels.to(device)}
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in pack.items()}, batch


def gradients(model: Any, loss: Callable[[], Tensor]) -> list[Tensor]:
    model.zero_grad(set_to_none=True)
    value = loss()
    value.backward()  # type: ignore[no-untyped-call]
    return [value.detach(), *(weight.grad.clone() for weight in model.parameters() if weight.grad is not None)]


def padded_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).loss  # type: ignore[no-any-return]


def seeded_loss(run: PackedSeq2Seq, pack: dict[str, Any]) -> Tensor:
    return run.loss(pack, seed=pack["seed"])


def check_steps(device: torch.device) -> None:
    for name in ("t5-tiny", "bart-tiny"):
        model = shapes.build(name, device)
        pack, batch = tiny_pack(model, device)
        model.eval()
        expected = gradients(model, partial(padded_loss, model, batch))
        run = PackedSeq2Seq(model)
        found = gradients(model, partial(run.loss, pack))
        report("step", name, difference(found, expected), 2e-3)
        if device.type != "cuda":
            continue
        model.train()
        seed = torch.full((), 5, dtype=torch.int32, device=device)
        plain = gradients(model, partial(run.loss, pack, seed=seed))
        graph = RecordedLoss(partial(seeded_loss, PackedSeq2Seq(model, compiled=True)), list(model.parameters()))
        for _ in range(2):
            recorded = gradients(model, partial(graph, pack | {"seed": seed}))
        report("graph", name, difference(recorded, plain), 2e-3)


def check_residual(device: torch.device) -> None:
    """Rounding the stream must stay within what bfloat16 costs anyway."""
    for name in ("bart-tiny", "t5-tiny"):
        model = shapes.build(name, device).eval()
        pack, _ = tiny_pack(model, device)
        exact = flat(gradients(model, partial(PackedSeq2Seq(model).loss, pack)))
        for dtype in (torch.float32, torch.bfloat16):
            run = PackedSeq2Seq(model, residual_dtype=dtype)
            with torch.autocast(device.type, torch.bfloat16):
                rounded = flat(gradients(model, partial(run.loss, pack)))
            report("residual", f"{name} {str(dtype)[6:]}", float((rounded - exact).norm() / exact.norm()), 4e-2)


def flat(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten().double() for gradient in gradients[1:]])


def check_search(device: torch.device) -> None:
    for name in ("t5-tiny", "bart-tiny"):
        arguments = argparse.Namespace(model=name, lengths="tiny", tokens=24, beams=4, no_repeat_ngram=2)
        found = generate_throughput.check(arguments, device)
        report("search", name, found["documents"] - found["equal"], 1)  # one near-tie may fall the other way


def time_kernels(device: torch.device) -> None:
    lengths = shapes.lengths("cnn", 400)[0]
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), 32768))]
    places, masks = spans(lengths, device), fixed_numbers(32768, 1, device)
    qkv = torch.randn(int(lengths.sum()), 3, 12, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    vector = torch.randn(12, 257, device=device, requires_grad=True)
    seeds = torch.arange(8, device=device, dtype=torch.int32)
    for case, backend, biased, dropout in (
        ("triton", "triton", False, 0.0),
        ("triton dropout", "triton", False, 0.1),
        ("triton bias", "triton", True, 0.0),
        ("triton bias dropout", "triton", True, 0.1),
        ("flash dropout", "flash", False, 0.1),
    ):
        bias = bias_for(vector, backend) if biased else None
        spent = []
        for backward in (False, True):
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
            for turn in range(13):
                if turn == 3:
                    marks[0].record()
                out = self_attention(
                    qkv, places, bias, causal=False, scale=0.1, dropout=dropout, seeds=seeds, masks=masks, site=0,
                    backend=backend,
                )  # fmt: skip
                if backward:
                    torch.autograd.grad(out.float().sum(), [qkv, vector] if biased else [qkv])
            marks[1].record()
            torch.cuda.synchronize(device)
            spent.append(marks[0].elapsed_time(marks[1]) / 10)
        shapes.emit(check="kernel", case=case, forward_ms=spent[0], with_backward_ms=spent[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    device = torch.device(parser.parse_args().device)
    check_attention(device)
    check_steps(device)
    check_residual(device)
    check_search(device)
    if device.type == "cuda":
        time_kernels(device)
    if failed:
        sys.exit("wrong: " + ", ".join(failed))


if __name__ == "__main__":
    main()

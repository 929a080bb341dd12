"""The default model's step and search on a card, stage by stage: what of a step is the host's and what the card's.

    python benchmarks/default_card.py                       # steps as `hardware=h100` trains, and a validation's search
    python benchmarks/default_card.py --device cpu --only search --rows 96     # of the shape that a processor trains
    python benchmarks/default_card.py --check               # what is recorded against what is launched; ends with an error

Documents are made up, of lengths like the default corpus's; the model has the default's shape on a card and random weights. One
JSON line a measurement: milliseconds per step by the host's clock, those in which the card computed (torch's profiler), launches
per step, and the kernels that took longest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from summarizer.data.collate import Seq2SeqCollator  # noqa: E402  needs the path above
from summarizer.evaluation.generation import generate, generation_options, search  # noqa: E402
from summarizer.evaluation.minimum_bayes_risk import least_risk  # noqa: E402
from summarizer.hardware import keep_freed_memory  # noqa: E402
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration  # noqa: E402
from summarizer.packing.generation import PackedGenerator  # noqa: E402
from summarizer.packing.graphs import RecordedLoss  # noqa: E402
from summarizer.training.fit import compile_model  # noqa: E402

WAYS = ("launched", "compiled", "recorded")
SHAPE: dict[str, Any] = {
    "vocab_size": 8000, "d_model": 256, "d_ff": 1024, "num_heads": 8, "encoder_layers": 4, "decoder_layers": 4, "copy_heads": 2,
    "dropout": 0.3, "source_dropout": 0.2, "target_dropout": 0.1, "restoration_weight": 1.0, "max_source_positions": 128,
    "max_target_positions": 32,
}  # fmt: skip

LOCAL = {
    "d_model": 128, "d_ff": 384, "num_heads": 4, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0,
    "source_dropout": 0.1, "target_dropout": 0.0, "restoration_weight": 0.3, "max_source_positions": 96,
}  # fmt: skip


class Settings(dict):  # type: ignore[type-arg]
    """config.GenerationConfig of the default."""

    __getattr__ = dict.__getitem__


GENERATION = Settings(
    max_new_tokens=32, min_new_tokens=3, num_beams=16, reranking="mbr", length_penalty=0.8, no_repeat_ngram_size=2,
    packing="auto", precision="32-true",
)  # fmt: skip


class Ids:
    """The special tokens of the default's tokenizer."""

    pad_token_id, eos_token_id = 0, 2


def made_up(rows: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of ids, of lengths like the default corpus's; most documents are cut at 128 tokens."""
    rng = np.random.default_rng(seed)
    sources = np.clip(145 * rng.lognormal(-0.08, 0.4, rows), 12, 128).astype(int)
    targets = np.clip(12 * rng.lognormal(-0.06, 0.35, rows), 4, 32).astype(int)
    return [
        (rng.integers(3, 8000, s), np.append(rng.integers(3, 8000, t - 1), 2))
        for s, t in zip(sources, targets, strict=True)
    ]


def on(device: torch.device) -> Any:
    model: Any = CopyTransformerForConditionalGeneration(CopyTransformerConfig(**SHAPE))
    return model.to(device)


def waited(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def say(what: str, **figures: Any) -> None:
    print(json.dumps({"what": what, **figures}), flush=True)


def measured(what: str, step: Callable[[int], Any], steps: int, device: torch.device, warm: int = 5) -> None:
    started = waited(device)
    for i in range(warm):
        step(i)
    begun = waited(device)
    for i in range(steps):
        step(warm + i)
    launched = time.perf_counter()
    ended = waited(device)
    figures: dict[str, Any] = {
        "first_steps_s": round(begun - started, 2),
        "ms": round(1000 * (ended - begun) / steps, 2),
        "host_ms": round(1000 * (launched - begun) / steps, 2),
    }
    if device.type == "cuda":
        few = min(10, steps)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            for i in range(few):
                step(warm + i)
            torch.cuda.synchronize()
        table = profiler.key_averages()
        figures["card_ms"] = round(sum(row.self_device_time_total for row in table) / 1000 / few, 2)
        figures["launches"] = sum(row.count for row in table) // few
        longest = sorted(table, key=lambda row: -row.self_device_time_total)[:12]
        figures["longest_us"] = {row.key[:70]: round(row.self_device_time_total / few) for row in longest}
    say(what, **figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rows", type=int, default=500, help="documents of the search")
    parser.add_argument("--only", choices=("steps", "search"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="to make a step")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        SHAPE.update(LOCAL)
        keep_freed_memory()
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
        say("card", name=torch.cuda.get_device_name(), torch=torch.__version__)
    if options.check:
        sys.exit(check(device))
    if options.only != "search":
        for way in options.ways:
            steps_of(device, options.steps, way)
    if options.only != "steps":
        search_of(device, options.rows)


def batches_of(device: torch.device, count: int, target_multiple: int | None = None) -> list[dict[str, torch.Tensor]]:
    collate = Seq2SeqCollator(0, 64 if target_multiple is None else 32, target_multiple=target_multiple)
    pairs = sorted(made_up(128 * count, 1), key=lambda pair: len(pair[0]))
    batches = [collate(pairs[i : i + 128]) for i in range(0, len(pairs), 128)]
    return [{k: v.to(device) for k, v in batch.items() if isinstance(v, torch.Tensor)} for batch in batches]


def loss_of(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    loss: torch.Tensor = model(**batch).loss
    return loss


def steps_of(device: torch.device, steps: int, way: str) -> None:
    torch.manual_seed(0)
    model = on(device).train()
    batches = batches_of(device, 32, None if way == "compiled" else 16)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), fused=True)
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor] = partial(loss_of, model)
    if way == "compiled":
        compile_model(model)
    elif way == "recorded":
        loss = RecordedLoss(loss, parameters, compute=torch.bfloat16)

    def passes(i: int) -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss(batches[i % len(batches)]).backward()

    def whole(i: int) -> None:
        optimizer.zero_grad()
        passes(i)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    measured(f"forward and backward, {way}", passes, steps, device, len(batches))
    measured(f"step, {way}", whole, steps, device)


def check(device: torch.device) -> int:
    """Losses, gradients and numbers drawn of recorded steps, a loss of the places that count, and the tokens of the search."""
    torch.manual_seed(0)
    model = on(device).train()
    parameters = list(model.parameters())
    recorded = RecordedLoss(partial(loss_of, model), parameters, frequent=1)
    failed = 0

    def results(loss: Callable[[], torch.Tensor], seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model.zero_grad()
        value = loss()
        value.backward()
        return [value.detach(), *(p.grad.clone() for p in parameters), torch.rand(3, device=device)]

    def compare(what: str, found: list[torch.Tensor], expected: list[torch.Tensor]) -> int:
        off = max(
            float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in zip(found, expected, strict=True)
        )
        say(what, off=off)
        return int(off > 1e-4)

    for batch in batches_of(device, 3, 16):
        for seed in (1, 2, 3):
            launched = results(partial(loss_of, model, batch), seed)
            found = results(partial(recorded, batch), seed)
            failed += compare(
                f"recorded against launched, {tuple(batch['input_ids'].shape)}, call {seed}", found, launched
            )
        plain = results(lambda batch=batch: model(**batch, static_shapes=False).loss, 3)  # type: ignore[misc]
        failed += compare("against the places that count", launched, plain)
    model.eval()
    sources = [source for source, _ in made_up(64, 2)]
    given = generation_options(model, GENERATION, Ids)
    found_beams = PackedGenerator(model, given, slots=32, longest_source=128).hypotheses(sources)
    expected_beams = generate(model, sources, given)
    same = sum(
        [[token for token in row if token != 2] for row in ours] == theirs
        for ours, theirs in zip(found_beams, expected_beams, strict=True)
    )
    say("documents whose 16 beams are generate()'s", same=same, of=len(sources))
    return int(failed > 0 or same < len(sources) - 2)


def search_of(device: torch.device, rows: int) -> None:
    torch.manual_seed(0)
    model = on(device).eval()
    sources = [source[: model.config.max_source_positions] for source, _ in made_up(rows, 2)]
    budget = 524288 if device.type == "cuda" else 16384
    found: dict[str, list[list[list[int]]]] = {}
    for packing in ("always", "always", "never"):
        beams: list[list[list[int]]] = [[] for _ in sources]
        started = waited(device)
        search(
            model, sources, settings=Settings({**GENERATION, "packing": packing}), batch_tokens=budget, tokenizer=Ids,
            finished=beams.__setitem__,
        )  # fmt: skip
        what = {"always": "search with memory of fixed size", "never": "generate()"}[packing]
        say(what, rows=rows, seconds=round(waited(device) - started, 2))
        found[packing] = beams
    same = sum(one == other for one, other in zip(found["always"], found["never"], strict=True))
    say("documents whose 16 beams are generate()'s", same=same, of=rows)
    started = time.perf_counter()
    for hypotheses in beams[:100]:
        least_risk([" ".join(f"w{token}" for token in ids) for ids in hypotheses])
    say("choice by risk, one core", rows=len(beams[:100]), ms_a_row=round(10 * (time.perf_counter() - started), 2))


if __name__ == "__main__":
    main()

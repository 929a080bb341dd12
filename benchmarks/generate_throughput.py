"""Summaries per second of the packed beam search against transformers' generate(), side by side on one machine.

    python benchmarks/generate_throughput.py --model t5-base --lengths cnn --device cuda

Random weights of published shapes and bfloat16 weights for both; exactly --tokens new tokens for each summary, which is
the worst case of a search that lets finished documents leave. generate() gets its documents sorted by length, and its
best batch counts. Prints one JSON line a row:

    packed     model, lengths, summaries_per_s, reference_summaries_per_s, ratio, peak_gib, reference_peak_gib,
               ms_per_token (of one batch), first_batch_s (with compilation and recording)
    reference  each batch size of generate()
    equality   with --check: documents whose tokens are generate()'s, in float32

Needs torch and transformers; no network.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import shapes
from summarizer.packing.generation import PackedGenerator


def options_of(model: Any, arguments: argparse.Namespace, exact: bool) -> Any:
    options = copy.deepcopy(model.generation_config)
    options.update(
        max_length=None, max_new_tokens=arguments.tokens, min_new_tokens=arguments.tokens if exact else 0,
        num_beams=arguments.beams, do_sample=False, forced_eos_token_id=None,
        no_repeat_ngram_size=arguments.no_repeat_ngram,
    )  # fmt: skip
    return options


def generate(model: Any, sources: list[np.ndarray], options: Any, batch: int, device: torch.device) -> list[list[int]]:
    """transformers' own, longest documents first; in the order given."""
    order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
    found: list[list[int]] = [[] for _ in sources]
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = max(len(sources[i]) for i in rows)
        ids = torch.full((len(rows), width), model.config.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(rows):
            ids[row, : len(sources[i])] = torch.from_numpy(sources[i])
            mask[row, : len(sources[i])] = 1
        with torch.inference_mode():
            written = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=options
            )
        for i, row_ids in zip(rows, written[:, 1:].tolist(), strict=True):
            found[i] = row_ids
    return found


def timed(work: Any, device: torch.device) -> float:
    shapes.synchronize(device)
    started = time.perf_counter()
    work()
    shapes.synchronize(device)
    return time.perf_counter() - started


def cut(row: list[int], end: int) -> list[int]:
    return row[: row.index(end) + 1] if end in row else row


def check(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """How many of a few documents come out token for token as generate() has them, in float32."""
    model = shapes.build(arguments.model, device).eval()
    sources = sources_of(arguments, model, 12)
    options = options_of(model, arguments, exact=False)
    ours = PackedGenerator(model, options, slots=8, longest_source=max(map(len, sources))).summarize(sources)
    theirs = generate(model, sources, options, 12, device)
    end = model.config.eos_token_id
    same = sum(cut(one, end) == cut(other, end) for one, other in zip(ours, theirs, strict=True))
    return {"row": "equality", "documents": len(sources), "equal": same}


def sources_of(arguments: argparse.Namespace, model: Any, count: int) -> list[np.ndarray]:
    drawn = shapes.lengths(arguments.lengths, count, seed=11)
    documents = shapes.Documents(*drawn, model.config.vocab_size, model.config.eos_token_id)
    return [documents[i][0] for i in range(count)]


def measure(
    arguments: argparse.Namespace, model: Any, options: Any, sources: list[np.ndarray], device: torch.device
) -> dict[str, Any]:
    """The packed search over full batches, after a first one that compiles and records."""
    shapes.forget_peak(device)
    cuda = device.type == "cuda"
    generator = PackedGenerator(
        model, options, slots=arguments.slots, longest_source=max(map(len, sources)),
        compiled=cuda and not arguments.eager, recorded=cuda and not arguments.no_graph,
    )  # fmt: skip
    rest = sources[arguments.slots :]
    first = timed(lambda: generator.summarize(sources[: arguments.slots]), device)
    seconds = timed(lambda: generator.summarize(rest), device)
    return {
        "slots": arguments.slots, "summaries_per_s": len(rest) / seconds, "first_batch_s": first,
        "ms_per_token": 1e3 * seconds / arguments.steps / arguments.tokens, "peak_gib": shapes.peak_gib(device),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t5-base", choices=shapes.MODELS)
    parser.add_argument("--lengths", default="cnn", choices=[*shapes.LENGTHS])
    parser.add_argument("--steps", type=int, default=3, help="batches that are timed")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--slots", type=int, default=256, help="documents searched over at a time")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--no-repeat-ngram", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="no torch.compile of the layers")
    parser.add_argument("--no-graph", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare tokens in float32 first")
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--reference-batches", type=int, nargs="+", default=[64, 128, 256])
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    label = {key: getattr(arguments, key) for key in ("model", "lengths", "beams", "tokens")}
    if arguments.check:
        shapes.emit(**check(arguments, device), **label)

    model = shapes.build(arguments.model, device).eval()
    model = model.to(torch.bfloat16) if device.type == "cuda" else model
    options = options_of(model, arguments, exact=True)
    sources = sources_of(arguments, model, arguments.slots * (arguments.steps + 1))
    row = {"row": "packed", **label, **measure(arguments, model, options, sources, device)}
    print(row, file=sys.stderr, flush=True)
    best: dict[str, Any] = {}
    for batch in [] if arguments.no_reference else arguments.reference_batches:
        some = sources[:batch]
        shapes.forget_peak(device)
        try:
            timed(lambda some=some, batch=batch: generate(model, some[:8], options, batch, device), device)  # type: ignore[misc]
            spent = timed(lambda some=some, batch=batch: generate(model, some, options, batch, device), device)  # type: ignore[misc]
        except RuntimeError as error:
            if not shapes.is_out_of_memory(error):
                raise
            shapes.emit(row="reference", **label, batch=batch, error="out of memory")
            continue
        found = {"batch": len(some), "summaries_per_s": len(some) / spent, "peak_gib": shapes.peak_gib(device)}
        shapes.emit(row="reference", **label, **found)
        if not best or found["summaries_per_s"] > best["summaries_per_s"]:
            best = found
    if best:
        row |= {
            "reference_summaries_per_s": best["summaries_per_s"],
            "ratio": row["summaries_per_s"] / best["summaries_per_s"],
            "reference_peak_gib": best["peak_gib"], "reference_batch": best["batch"],
        }  # fmt: skip
    shapes.emit(**row)


if __name__ == "__main__":
    main()

"""Training throughput of packed encoder-decoders against transformers' Seq2SeqTrainer, side by side on one machine.

    python benchmarks/train_throughput.py --model t5-base --lengths cnn --steps 30 --device cuda

Random weights of published shapes, dropout on, documents of a corpus's lengths (caps 1,024 and 128 tokens); tokens are
real ones, padding not counted. Prints one JSON line a row:

    packed     model, lengths, tokens_per_s, reference_tokens_per_s, ratio, mfu, peak_gib, reference_peak_gib, and
               first_step_s (with compilation), first_1000_steps_s (the measured start plus steady steps), padding_share
    reference  each batch size of the Trainer; the best of them is what `packed` is compared with
    equal      with --equal-memory: packs of the best reference batch's documents, for memory at equal work a step
    lightning  with --lightning: the same packs through Lightning's Trainer, as a share of the plain loop

Needs torch, transformers (with accelerate) and, for --lightning, Lightning; no network.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import reference_trainer, shapes
from summarizer.packing.anatomy import start_token
from summarizer.packing.arithmetic import device_peak, training_flops
from summarizer.packing.collate import PackedSeq2SeqCollator
from summarizer.packing.planning import PackBudget, TrainingPacks, choose_budget
from summarizer.packing.training import PackedLoss

WARM_UP_STEPS = 6
RESIDUALS = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16}


@dataclasses.dataclass
class Setup:
    """A model, its packs and the way they are computed."""

    arguments: argparse.Namespace
    model: Any
    documents: shapes.Documents
    budget: PackBudget
    device: torch.device

    def packs(self) -> TrainingPacks:
        return TrainingPacks(
            self.documents.source_lengths, self.documents.target_lengths, self.budget, seed=0, epochs=1
        )

    def loader(self) -> Any:
        config = self.model.config
        return torch.utils.data.DataLoader(
            self.documents,
            batch_sampler=self.packs(),
            num_workers=self.arguments.workers if self.device.type == "cuda" else 0,
            collate_fn=PackedSeq2SeqCollator(self.budget, config.pad_token_id, start_token(config)),
            pin_memory=self.device.type == "cuda",
        )

    def loss_function(self) -> Any:
        """(pack) -> loss, as training has it: recorded, compiled or plain."""
        arguments, cuda = self.arguments, self.device.type == "cuda"
        loss_of = PackedLoss(
            self.model,
            compiled=cuda and not arguments.eager,
            recorded=cuda and not arguments.no_graph,
            compute=torch.bfloat16 if cuda else None,
            attention=arguments.attention,
            residual_dtype=RESIDUALS[arguments.residual] if cuda else None,
            checkpoint_layers=arguments.checkpoint_layers,
        )

        def loss(pack: dict[str, Any]) -> torch.Tensor:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda):
                return loss_of(pack)

        return loss

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.model.parameters(), lr=5e-5, fused=True)


def on_device(packs: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    """Packs on the device, each copied while the one before is computed."""
    ahead: dict[str, Any] | None = None
    for pack in packs:
        moved = {
            key: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for key, value in pack.items()
        }
        if ahead is not None:
            yield ahead
        ahead = moved
    if ahead is not None:
        yield ahead


def make(arguments: argparse.Namespace, device: torch.device, steps: int, documents_a_pack: int | None = None) -> Setup:
    model = shapes.build(arguments.model, device).train()
    sample = shapes.lengths(arguments.lengths, 20_000)
    size = None if documents_a_pack else arguments.source_tokens
    budget = choose_budget(*sample, source_tokens=size, documents=documents_a_pack)
    count = int(1.1 * (steps + WARM_UP_STEPS + 3) * budget.source_tokens / sample[0].mean()) + 300
    drawn = shapes.lengths(arguments.lengths, count, seed=7)
    documents = shapes.Documents(*drawn, model.config.vocab_size, model.config.eos_token_id)
    return Setup(arguments, model, documents, budget, device)


def measure_packed(setup: Setup, steps: int) -> dict[str, Any]:
    """Tokens per second of `steps` steps after the warm-up: forward, backward, clipping, AdamW, loading."""
    device = setup.device
    shapes.forget_peak(device)
    started = time.perf_counter()
    loss_of, optimizer = setup.loss_function(), setup.optimizer()
    packs = setup.packs().epoch(0)
    assert len(packs) >= steps + WARM_UP_STEPS, "too few documents for these steps"
    first_step = 0.0
    clock = started
    for step, pack in enumerate(on_device(setup.loader(), device)):
        if step == WARM_UP_STEPS:
            shapes.synchronize(device)
            clock = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(pack)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(setup.model.parameters(), 1.0)
        optimizer.step()
        if step == 0:
            shapes.synchronize(device)
            first_step = time.perf_counter() - started
        if step == WARM_UP_STEPS + steps - 1:
            break
    shapes.synchronize(device)
    seconds = time.perf_counter() - clock
    assert bool(torch.isfinite(loss)), f"the loss became {float(loss)}"
    counted = np.concatenate(packs[WARM_UP_STEPS : WARM_UP_STEPS + steps])
    source, target = setup.documents.source_lengths[counted], setup.documents.target_lengths[counted]
    tokens, peak = int(source.sum() + target.sum()), device_peak(device)
    slots = steps * (setup.budget.source_tokens + setup.budget.target_tokens)
    return {
        "tokens_per_s": tokens / seconds,
        "documents_per_s": len(counted) / seconds,
        "ms_per_step": 1e3 * seconds / steps,
        "mfu": training_flops(setup.model, source, target) / seconds / peak if peak else None,
        "peak_gib": shapes.peak_gib(device),
        "tokens_per_step": tokens / steps,
        "padding_share": 1 - tokens / slots,
        "first_step_s": first_step,
        "first_1000_steps_s": clock - started + (1000 - WARM_UP_STEPS) * seconds / steps,
        "loss": float(loss.detach()),
    }


def measure_lightning(setup: Setup, steps: int) -> float:
    """Tokens per second of the same packs through Lightning's Trainer with automatic optimization."""
    try:
        import pytorch_lightning as pl
    except ImportError:
        import lightning.pytorch as pl

    device = setup.device
    marks: list[float] = []

    class Module(pl.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model = setup.model
            self.loss_of = setup.loss_function()

        def training_step(self, pack: dict[str, Any], batch_index: int) -> torch.Tensor:
            return self.loss_of(pack)  # type: ignore[no-any-return]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return setup.optimizer()

        def configure_gradient_clipping(self, *arguments: Any, **options: Any) -> None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_index: int) -> None:
            if batch_index in (WARM_UP_STEPS - 1, WARM_UP_STEPS + steps - 1):
                shapes.synchronize(device)
                marks.append(time.perf_counter())

    trainer = pl.Trainer(
        accelerator="gpu" if device.type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if device.type == "cuda" else "32-true",
        max_steps=WARM_UP_STEPS + steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(Module(), setup.loader())
    counted = np.concatenate(setup.packs().epoch(0)[WARM_UP_STEPS : WARM_UP_STEPS + steps])
    tokens = int(setup.documents.source_lengths[counted].sum() + setup.documents.target_lengths[counted].sum())
    return tokens / (marks[1] - marks[0])


def measure_reference(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any] | None:
    """The Trainer's best batch size, each printed as a row."""
    best: dict[str, Any] | None = None
    for batch in arguments.reference_batches:
        steps = arguments.reference_steps
        model = shapes.build(arguments.model, device).train()
        drawn = shapes.lengths(arguments.lengths, batch * (steps + reference_trainer.WARM_UP_STEPS), seed=7)
        documents = shapes.Documents(*drawn, model.config.vocab_size, model.config.eos_token_id)
        found = reference_trainer.measure(model, documents, batch, steps, device, arguments.workers)
        del model
        label = {"row": "reference", "model": arguments.model, "lengths": arguments.lengths}
        if found is None:
            shapes.emit(**label, batch=batch, error="out of memory")
            continue
        shapes.emit(**label, **found)
        if best is None or found["tokens_per_s"] > best["tokens_per_s"]:
            best = found
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="t5-base", choices=shapes.MODELS)
    parser.add_argument("--lengths", default="cnn", choices=[*shapes.LENGTHS])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--source-tokens", type=int, default=65536, help="of one pack")
    parser.add_argument("--workers", type=int, default=4, help="processes that load, for both sides")
    parser.add_argument("--attention", default="auto", choices=["auto", "triton", "flash", "dense"])
    parser.add_argument("--residual", default="auto", choices=RESIDUALS, help="type of the residual stream")
    parser.add_argument("--eager", action="store_true", help="no torch.compile")
    parser.add_argument("--no-graph", action="store_true", help="no CUDA graph")
    parser.add_argument("--checkpoint-layers", action="store_true")
    parser.add_argument("--lightning", action="store_true", help="also through Lightning's Trainer")
    parser.add_argument(
        "--equal-memory", action="store_true", help="also with as many documents a step as the best reference"
    )
    parser.add_argument("--no-reference", action="store_true")
    parser.add_argument("--reference-batches", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--reference-steps", type=int, default=15)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    device = torch.device(arguments.device)
    label = {"model": arguments.model, "lengths": arguments.lengths}

    setup = make(arguments, device, arguments.steps)
    packed = measure_packed(setup, arguments.steps)
    print(f"packed: {packed}", file=sys.stderr, flush=True)
    if arguments.lightning:
        through = measure_lightning(make(arguments, device, arguments.steps), arguments.steps)
        shapes.emit(
            row="lightning", **label, tokens_per_s=through, share_of_plain_loop=through / packed["tokens_per_s"]
        )
    del setup
    best = None if arguments.no_reference else measure_reference(arguments, device)
    row = {"row": "packed", **label, **packed, "source_tokens": arguments.source_tokens}
    if best is not None:
        row |= {
            "reference_tokens_per_s": best["tokens_per_s"],
            "ratio": packed["tokens_per_s"] / best["tokens_per_s"],
            "reference_peak_gib": best["peak_gib"],
            "reference_batch": best["batch"],
            "reference_first_1000_steps_s": best["first_1000_steps_s"],
        }
    shapes.emit(**row)
    if arguments.equal_memory and best is not None:
        equal = measure_packed(make(arguments, device, 6, documents_a_pack=best["batch"]), 6)
        keys = ("tokens_per_step", "peak_gib", "tokens_per_s")
        shapes.emit(row="equal", **label, **{key: equal[key] for key in keys}, reference_peak_gib=best["peak_gib"])


if __name__ == "__main__":
    main()

"""Does packed training on several devices learn what one device learns, and how fast is it?

    python benchmarks/check_devices.py --device cuda --devices 2 --model t5-base --lengths cnn
    python benchmarks/check_devices.py --device cpu --devices 2 --model t5-tiny --lengths tiny --steps 4

Through the product's Lightning module and strategies, random weights of published shapes. One process tree a case: `one`
device; `ddp` (recorded steps, gradients exchanged once a step); `fsdp`; on request `ddp-launched` (as ddp, not recorded)
and `ddp-hooks` (Lightning's DDP, not recorded). Prints one JSON line a row, and ends with an error if a check fails:

    curve   one epoch of `--check-model` in float32, dropout off, two packs a device and step; one device takes the same
            packs by accumulation. loss_difference and norm_difference: the largest relative difference of a step's loss (mean
            over its target tokens) and gradient norm from one device's, at most 1e-4 on a CPU and 5e-3 on CUDA, whose
            float32 kernels sum in no fixed order and may compute products in TF32
    epoch   documents that were not trained on exactly once, each known by its first two tokens
    speed   tokens_per_s of all devices (real tokens, steady state, dropout on, bf16 autocast and compiled on CUDA),
            scaling against one device, peak_gib of the first device, share of the least loaded device in a mean
            device's attention cost
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import shapes
from summarizer.packing.planning import PackBudget, choose_budget, epoch_packs
from summarizer.packing.training import packed_collator
from summarizer.training.fit import packed_loss_settings, quiet_lightning, strategy_for
from summarizer.training.module import SummarizationModule

CASES = ("one", "ddp", "fsdp", "ddp-launched", "ddp-hooks")
WARM_UP_STEPS = 8
CHECK_PASSES = 2  # of a device in a step of the curve
MARKED = 1000  # a document's number is its first two tokens in this base
LIMITS = {"cpu": 1e-4, "cuda": 5e-3}


class Marked(shapes.Documents):
    """Documents that carry their numbers."""

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        source, target = super().__getitem__(index)
        source = source.copy()
        base = mark_base(int(self.ids.max()))
        source[:2] = 4 + index // base, 4 + index % base
        return source, target


def mark_base(largest_id: int) -> int:
    return min(MARKED, largest_id - 4)


class Plan:
    """The packs of this rank, in an order that takes the same packs in a step on any number of devices.

    A batch sampler; one device takes the packs of all.
    """

    def __init__(self, packs: list[np.ndarray], rank: int, world_size: int) -> None:
        self.packs = packs[rank::world_size]

    def __len__(self) -> int:
        return len(self.packs)

    def __iter__(self) -> Any:
        return (pack.tolist() for pack in self.packs)


class Watch(pl.Callback):
    """What each pass learned from, and when it was done; nothing here waits for the device before the end."""

    def __init__(self, timed_from: int | None) -> None:
        self.timed_from = timed_from
        self.losses: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self.norms: list[torch.Tensor] = []
        self.marks: list[torch.Tensor] = []
        self.tokens = 0
        self.started = self.seconds = 0.0

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        if self.timed_from is not None:
            if index >= self.timed_from:
                self.tokens += batch["tokens"]
            if index in (self.timed_from - 1, trainer.max_steps - 1):
                shapes.synchronize(module.device)
                self.seconds, self.started = time.perf_counter() - self.started, time.perf_counter()
            return
        self.losses.append(trainer.callback_metrics["train/loss"].detach().clone())
        self.labels.append((batch["labels"] >= 0).sum())
        firsts = batch["source_offsets"][: batch["documents"]].long()
        self.marks.append(torch.stack([batch["source_ids"][firsts], batch["source_ids"][firsts + 1]]))
        if (index + 1) % trainer.accumulate_grad_batches == 0:
            self.norms.append(trainer.callback_metrics["train/gradient_norm"].detach().clone())

    def found(self, base: int) -> dict[str, Any]:
        marks = torch.cat(self.marks, 1) - 4 if self.marks else torch.zeros(2, 0, dtype=torch.long)
        return {
            "losses": [float(x) for x in self.losses],
            "labels": [int(x) for x in self.labels],
            "norms": [float(x) for x in self.norms],
            "documents": (marks[0] * base + marks[1]).tolist(),
            "tokens": self.tokens,
            "seconds": self.seconds,
        }


def settings(case: str, device: str, devices: int, precision: str) -> Any:
    """The part of the product's config that decides how a step is computed."""
    return OmegaConf.create({
        "trainer": {"strategy": "fsdp" if case == "fsdp" else "auto", "devices": devices},
        "hardware": {"accelerator": device, "compile": device == "cuda", "precision": precision},
        "model": {"gradient_checkpointing": False},
        "optim": {
            "name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "fused": None, "weight_decay": 0.01,
            "label_smoothing": 0.0, "gradient_clip_norm": 1.0,
        },
        "scheduler": {"name": "constant", "warmup_steps": 0},
    })  # fmt: skip


def train(
    case: str, arguments: argparse.Namespace, model: Any, documents: Marked, packs: list[np.ndarray],
    budget: PackBudget, *, passes: int, steps: int, precision: str, timed_from: int | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train in this case's way; what each rank saw, by rank."""
    devices = 1 if case == "one" else arguments.devices
    if arguments.device == "cpu":  # threads of several processes that wait for one core spin against each other
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // arguments.devices))
    config = settings(case, arguments.device, devices, precision)
    packing = packed_loss_settings(config)
    packing["recorded"] &= case in ("one", "ddp")
    collator = packed_collator(model, budget, model.config.pad_token_id)
    watch = Watch(timed_from)
    module = SummarizationModule(model, config.optim, config.scheduler, steps, packing=packing)
    # the product's choice for packs, and Lightning's own DDP for comparison
    strategy = "ddp" if case == "ddp-hooks" else strategy_for(config, collator)  # type: ignore[arg-type]
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if arguments.device == "cuda" else "cpu", devices=devices, strategy=strategy,
            precision=precision, max_epochs=1, max_steps=steps, accumulate_grad_batches=passes, callbacks=[watch],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(
            documents, batch_sampler=Plan(packs, trainer.global_rank, devices), collate_fn=collator,
            num_workers=arguments.workers if arguments.device == "cuda" else 0, pin_memory=arguments.device == "cuda",
        )  # fmt: skip
        trainer.fit(module, loader)
    mine = watch.found(mark_base(int(documents.ids.max()))) | {
        "peak_gib": shapes.peak_gib(torch.device(arguments.device))
    }
    ranks: list[Any] = [mine]
    if devices > 1:
        ranks = [None] * devices
        torch.distributed.all_gather_object(ranks, mine)
    return ranks


def without_dropout(model: Any) -> Any:
    for name in ("dropout_rate", "dropout", "attention_dropout", "activation_dropout"):
        if hasattr(model.config, name):
            setattr(model.config, name, 0.0)
    return model


def run_check(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One epoch in float32: the curve by steps, and the documents."""
    model = without_dropout(shapes.build(arguments.check_model, torch.device("cpu")).train())
    tiny = arguments.check_model.endswith("tiny")
    lengths = shapes.lengths("tiny" if tiny else "xsum", arguments.check_documents, seed=3)
    documents = Marked(*lengths, model.config.vocab_size, model.config.eos_token_id)
    # packs of unlike fill, and an odd number of them before they are shared
    budget = choose_budget(*lengths, documents=max(1, arguments.check_documents // (16 * arguments.devices)))
    world = arguments.devices
    packs = epoch_packs(*lengths, budget, seed=0, epoch=0, world_size=world)
    passes = CHECK_PASSES * (world if case == "one" else 1)
    steps = math.ceil(len(packs) / world / CHECK_PASSES)
    ranks = train(
        case, arguments, model, documents, packs, budget,
        passes=passes, steps=steps, precision="32-true", timed_from=None,
    )  # fmt: skip
    losses, labels = (np.array([rank[key] for rank in ranks], dtype=np.float64) for key in ("losses", "labels"))
    marks = np.arange(0, losses.shape[1], passes)
    curve = np.add.reduceat((losses * labels).sum(0), marks) / np.add.reduceat(labels.sum(0), marks)
    seen = np.bincount(np.concatenate([rank["documents"] for rank in ranks]), minlength=len(documents))
    return {
        "losses": curve.tolist(),
        "norms": ranks[0]["norms"],
        "packs": len(packs),
        "not_once": int((seen != 1).sum()),
        "documents": len(documents),
    }


def run_speed(case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Steps of one pack a device, dropout on."""
    device, world = arguments.device, 1 if case == "one" else arguments.devices
    model = shapes.build(arguments.model, torch.device("cpu")).train()
    budget = choose_budget(*shapes.lengths(arguments.lengths, 20_000), source_tokens=arguments.source_tokens)
    steps = arguments.steps + WARM_UP_STEPS
    count = int(1.15 * world * steps * budget.source_tokens / shapes.lengths(arguments.lengths, 20_000)[0].mean()) + 300
    lengths = shapes.lengths(arguments.lengths, count, seed=7)
    documents = Marked(*lengths, model.config.vocab_size, model.config.eos_token_id)
    packs = epoch_packs(*lengths, budget, seed=0, epoch=0, world_size=world)[: steps * world]
    ranks = train(
        case, arguments, model, documents, packs, budget,
        passes=1, steps=steps, precision="bf16-mixed" if device == "cuda" else "32-true", timed_from=WARM_UP_STEPS,
    )  # fmt: skip
    costs = np.array([float((lengths[0][pack].astype(float) ** 2).sum()) for pack in packs]).reshape(-1, world)
    return {
        "tokens_per_s": sum(rank["tokens"] for rank in ranks) / max(rank["seconds"] for rank in ranks),
        "ms_per_step": 1e3 * max(rank["seconds"] for rank in ranks) / arguments.steps,
        "peak_gib": ranks[0]["peak_gib"],
        "least_load_share": float((costs.min(1) / costs.mean(1)).mean()),
    }


def in_own_processes(case: str, job: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A case's result; Lightning starts the other ranks by the same command line."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, *sys.argv, "--run", job, "--case", case, "--result", str(result)]
        subprocess.run(command, check=True)
        return json.loads(result.read_text())  # type: ignore[no-any-return]


def relative(found: list[float], expected: list[float]) -> float:
    a, b = np.array(found), np.array(expected)
    return float(np.max(np.abs(a - b) / np.abs(b))) if a.shape == b.shape else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--model", default="t5-base", choices=shapes.MODELS, help="of the speed rows")
    parser.add_argument("--lengths", default="cnn", choices=[*shapes.LENGTHS])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--source-tokens", type=int, default=32768, help="of one pack")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--check-models", nargs="+", default=["t5-tiny", "bart-tiny"], choices=shapes.MODELS)
    parser.add_argument("--check-documents", type=int, default=301)
    parser.add_argument("--cases", nargs="+", default=["one", "ddp", "fsdp"], choices=CASES)
    parser.add_argument("--only", choices=["check", "speed"])
    for name in ("--run", "--case", "--result", "--check-model"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if arguments.run:
        job, _, arguments.check_model = arguments.run.partition(":")
        found = run_check(arguments.case, arguments) if job == "check" else run_speed(arguments.case, arguments)
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            Path(arguments.result).write_text(json.dumps(found))
        return

    failed = []
    cases = ["one", *(case for case in arguments.cases if case != "one")]
    label = {"device": arguments.device, "devices": arguments.devices}
    for model in arguments.check_models if arguments.only != "speed" else []:
        one: dict[str, Any] = {}
        for case in cases:
            found = in_own_processes(case, f"check:{model}", arguments)
            one = one or found
            differences = {key: relative(found[name], one[name]) for key, name in
                           (("loss_difference", "losses"), ("norm_difference", "norms"))}  # fmt: skip
            right = max(differences.values()) <= LIMITS[arguments.device] and found["not_once"] == 0
            failed += [] if right else [f"{case} {model}"]
            shapes.emit(row="curve", case=case, **label, model=model, **differences, steps=len(found["losses"]),
                        first_loss=found["losses"][0], last_loss=found["losses"][-1],
                        limit=LIMITS[arguments.device], right=right)  # fmt: skip
            shapes.emit(row="epoch", case=case, **label, model=model,
                        **{key: found[key] for key in ("documents", "not_once", "packs")})  # fmt: skip
    single: float | None = None
    for case in cases if arguments.only != "check" else []:
        found = in_own_processes(case, "speed", arguments)
        single = single or found["tokens_per_s"]
        shapes.emit(row="speed", case=case, **label, model=arguments.model, lengths=arguments.lengths, **found,
                    scaling=found["tokens_per_s"] / single)  # fmt: skip
    if failed:
        sys.exit("wrong: " + ", ".join(failed))


if __name__ == "__main__":
    main()

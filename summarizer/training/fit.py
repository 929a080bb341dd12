"""One training job from prepared data to a finished model folder: the order of things, nothing else."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger

from summarizer.config import Architecture
from summarizer.data.batches import BatchLimits
from summarizer.data.collate import CausalCollator, Seq2SeqCollator
from summarizer.data.datamodule import Packing, SummarizationData
from summarizer.data.tokenized import TokenizedSplit, TokenizedStream
from summarizer.evaluation.report import opening_report
from summarizer.forecast import hours as expected_hours
from summarizer.hardware import world_size_of
from summarizer.metric_names import TRAINING_DOCUMENTS, TRAINING_SECONDS, TRAINING_STEPS
from summarizer.models.loading import build_model, finished_model, refuse_missing_new_tokens
from summarizer.packing.anatomy import supports_packing
from summarizer.packing.arithmetic import device_peak, training_arithmetic
from summarizer.packing.training import budget_for, packed_collator, wants_packing
from summarizer.run import Run
from summarizer.stages import Stage, Stages
from summarizer.training.averaging import AveragedWeights
from summarizer.training.checkpoint_key import checkpoint_key
from summarizer.training.checkpointing import (
    AtomicCheckpointIO,
    BestCheckpoint,
    ExactResume,
    PatientStopping,
    StepCheckpoints,
    newest_good_checkpoint,
    read_checkpoint,
    validation_of,
)
from summarizer.training.divergence import StopAtDivergence
from summarizer.training.exchange import ExchangeAtStep
from summarizer.training.guards import memory_errors, quiet_lightning
from summarizer.training.module import SummarizationModule
from summarizer.training.optimizers import warmup_steps
from summarizer.training.parts import takes_parts
from summarizer.training.progress import ProgressFile, StageMarks, progress_callbacks
from summarizer.training.reports import ReportedObjective
from summarizer.training.sharding import repeated_layers
from summarizer.training.throughput import Throughput
from summarizer.training.undeclared import callbacks_of
from summarizer.training.validation import GenerativeValidation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How many optimizer steps, of how many forward passes each, and when to validate (counted in forward passes)."""

    total_steps: int
    accumulation: int
    validate_every: int


def plan_schedule(batches_per_epoch: int, batch_documents: float, epochs: int, config: DictConfig) -> Schedule:
    """Fit epochs, accumulation and validations together.

    Args:
        batches_per_epoch: forward passes of one device in one epoch.
        batch_documents: documents of a mean forward pass on all devices together.

    Every run ends in a validation: without a given `trainer.max_steps`, fewer than `validations` steps are cut off the
    end; with one, the number of validations gives way.
    """
    accumulation = max(1, round(config.optim.effective_batch_size / batch_documents))
    accumulation = min(accumulation, batches_per_epoch * epochs)
    possible = batches_per_epoch * epochs // accumulation
    wanted = config.trainer.validations
    if config.trainer.max_steps > 0:
        total = min(config.trainer.max_steps, possible)
        divisors = [v for v in range(1, min(2 * wanted, total) + 1) if total % v == 0]
        validations = min(divisors, key=lambda v: abs(v - wanted))
    else:
        validations = min(wanted, possible)
        total = possible - possible % validations
    return Schedule(total, accumulation, total // validations * accumulation)


def collator_for(
    config: DictConfig, tokenizer: PreTrainedTokenizerBase, model: Any
) -> Seq2SeqCollator | CausalCollator:
    if records(config, model):
        return Seq2SeqCollator(tokenizer.pad_token_id, 32, target_multiple=16)
    multiple = 64 if config.hardware.compile else 1
    if config.hardware.accelerator == "cpu" and config.hardware.precision == "bf16-mixed":
        multiple = 4  # oneDNN makes a kernel for each shape it meets; compiled layers take any width
    if config.model.architecture == Architecture.causal_lora:
        return CausalCollator(tokenizer.pad_token_id, multiple)
    return Seq2SeqCollator(tokenizer.pad_token_id, multiple, global_first_token=model.config.model_type == "led")


def trainer_callbacks(
    run: Run,
    config: DictConfig,
    schedule: Schedule,
    validation: GenerativeValidation,
    throughput: Throughput,
    resume: ExactResume,
) -> list[Callback]:
    """In the order that their hooks must run: see the notes of each class."""
    # first, so that the step it ends is not saved
    callbacks: list[Callback] = [StopAtDivergence(config.optim.lr), resume, throughput, validation]
    callbacks.append(
        ReportedObjective(run.folder, config.sweep.metric, warmup_steps(config.scheduler, schedule.total_steps))
    )
    if config.optim.ema_decay is not None:
        callbacks.append(AveragedWeights(config.optim.ema_decay))
    if config.callbacks.early_stopping_patience is not None:
        callbacks.append(
            PatientStopping(
                config.callbacks.monitor, mode=config.callbacks.mode, patience=config.callbacks.early_stopping_patience
            )
        )
    callbacks.append(ProgressFile(run.progress_file, schedule.total_steps))
    callbacks += progress_callbacks(schedule.total_steps, config.callbacks.progress)
    callbacks.append(BestCheckpoint(run, config.callbacks.monitor, config.callbacks.mode))
    callbacks.append(StepCheckpoints(run, config.trainer.checkpoint_every_n_steps))
    return callbacks


def fit(
    run: Run,
    config: DictConfig,
    splits: dict[str, TokenizedSplit | TokenizedStream],
    tokenizer: PreTrainedTokenizerBase,
    *,
    rank: int = 0,
    loggers: Sequence[Logger] = (),
    stages: Stages | None = None,
) -> tuple[Any, dict[str, float]]:
    """Train, from the newest checkpoint of the run's folder if there is one.

    Returns:
        The best model by `callbacks.monitor`, in eval mode on the device that training is for, and the training metrics.

    Raises:
        HardwareError: the device's memory does not suffice.
        Interrupted: the job was asked to stop; it has saved itself.
    """
    world_size = world_size_of(config)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    with memory_errors():
        model = build_model(config.model, tokenizer, config.hardware.attention).train()
        refuse_missing_new_tokens(model, config)
    limits = BatchLimits(config.trainer.batch_size, config.hardware.tokens_per_step)
    on_gpu = config.hardware.accelerator == "cuda"
    data = SummarizationData(
        splits, collator_for(config, tokenizer, model), limits,
        epochs=config.trainer.max_epochs, seed=config.seed, validation_samples=config.trainer.validation_samples,
        workers=min(config.hardware.workers, 4) if on_gpu else 0, pin_memory=on_gpu,
    )  # fmt: skip
    packs = choose_packing(config, splits["train"], model, tokenizer)
    data.packing = packs
    schedule = plan_schedule(*data.epoch_size(rank, world_size), config.trainer.max_epochs, config)

    if config.trainer.max_steps > schedule.total_steps:
        epochs = config.trainer.max_epochs
        log.info(
            "trainer.max_epochs=%d ends the training at step %d, before trainer.max_steps=%d; to train longer, set "
            "trainer.max_epochs=%d.",
            epochs, schedule.total_steps, config.trainer.max_steps,
            math.ceil(epochs * config.trainer.max_steps / schedule.total_steps),
        )  # fmt: skip
    if rank == 0:
        opening_report(
            config, {name: rows_of(split) for name, split in splits.items()},
            parameters=sum(p.numel() for p in model.parameters()),
            trained=sum(p.numel() for p in model.parameters() if p.requires_grad),
            accumulation=schedule.accumulation, steps=schedule.total_steps, folder=run.folder, hours=expected_hours(config),
        )  # fmt: skip
    key = checkpoint_key(config, splits, tokenizer)
    found = newest_good_checkpoint(run, key, world_size)
    if found:
        data.position = found.batches_done
        log.info("continuing from %s", found.path.name)
    validation_split = splits["validation"]
    assert isinstance(validation_split, TokenizedSplit), "only training rows are streamed"
    validation = GenerativeValidation(
        validation_split, data.validation_rows(), tokenizer, config.generation,
        config.hardware.generation_tokens, config.logger.sample_predictions,
    )  # fmt: skip
    throughput = measured_throughput(model, config)
    resume = ExactResume(key, found.seconds if found else 0.0)
    alone = config.hardware.accelerator == "cpu" and world_size == 1 and config.trainer.strategy != "fsdp"
    in_parts = alone and not packs and not config.hardware.compile and takes_parts(model)
    recorded = not packs and records(config, model)
    module = SummarizationModule(
        model,
        config.optim,
        config.scheduler,
        schedule.total_steps,
        packing=packed_loss_settings(config) if packs else None,
        in_parts=in_parts,
        recorded={"compute": compute_type(config), "frequent": 2} if recorded else None,
    )
    compiled = bool(config.hardware.compile) and not recorded
    if compiled and not packs:
        compile_model(model)
    with quiet_lightning():
        trainer = build_trainer(
            run, config, schedule, validation, throughput, resume, loggers, strategy_for(config, packs)
        )
    stages = stages or Stages(None)
    callbacks_of(trainer).append(StageMarks(stages, compiles=compiled and (on_gpu or not packs)))
    with quiet_lightning(), memory_errors():
        if found and found.stopped_early:
            set_up_device(trainer, module)
            throughput.load_state_dict(found.callbacks[throughput.state_key])
        else:
            try:
                trainer.fit(module, datamodule=data, ckpt_path=str(found.path) if found else None, weights_only=True)
            finally:
                data.end_workers()
    # a run that was killed after its last step has measured all before: the checkpoint remembers
    measured: dict[str, Any] = {**(found.metrics if found else {}), **trainer.callback_metrics}
    metrics = {
        **{key: float(value) for key, value in measured.items() if key.startswith(("train/", "validation/"))},
        **throughput.summary(),
        TRAINING_STEPS: float(found.steps if found and found.stopped_early else trainer.global_step),
        TRAINING_SECONDS: resume.seconds(),
    }
    if (documents := rows_of(splits["train"])) is not None:
        metrics[TRAINING_DOCUMENTS] = float(documents)
    stages.enter(Stage.test)
    with memory_errors():
        best = best_model(run, config, tokenizer, module, trainer.strategy.root_device)
    if run.best_checkpoint.exists():  # what is said of the model that is kept, not of the last one
        metrics |= validation_of(run.best_checkpoint)
    return best, metrics


def choose_packing(
    config: DictConfig, train: TokenizedSplit | TokenizedStream, model: Any, tokenizer: PreTrainedTokenizerBase
) -> Packing | None:
    """How training documents are packed; None where they are padded: on a CPU, a stream, or a model that cannot be packed."""
    device = torch.device({"cuda": "cuda", "mps": "mps"}.get(config.hardware.accelerator, "cpu"))
    if isinstance(train, TokenizedStream) or (config.trainer.packing == "auto" and records(config, model)):
        return None
    if not wants_packing(config.trainer.packing, model, device):
        return None
    budget = budget_for(
        train.source_lengths, train.target_lengths, tokens=config.hardware.tokens_per_step,
        step_documents=config.optim.effective_batch_size, world_size=world_size_of(config),
    )  # fmt: skip
    return Packing(budget, packed_collator(model, budget, tokenizer.pad_token_id))


def packed_loss_settings(config: DictConfig) -> dict[str, Any]:
    """What `PackedLoss` is made with."""
    on_gpu = config.hardware.accelerator == "cuda"
    compiled = bool(config.hardware.compile and on_gpu)
    return {
        "compiled": compiled,
        "recorded": compiled and config.trainer.strategy != "fsdp",
        "compute": compute_type(config),
        "checkpoint_layers": bool(config.model.gradient_checkpointing),
    }


def compute_type(config: DictConfig) -> torch.dtype | None:
    """Autocast's; None computes in the parameters'."""
    return torch.bfloat16 if config.hardware.precision == "bf16-mixed" else None


def records(config: DictConfig, model: Any) -> bool:
    """Whether padded steps are recorded as CUDA graphs, in place of compiled layers: on one card, where the model says that nothing
    in its loss waits for the device. Seconds of recording do more for a small model than half a minute of compiling."""
    alone = config.hardware.accelerator == "cuda" and config.trainer.devices == 1 and config.trainer.strategy != "fsdp"
    return alone and bool(config.hardware.compile) and getattr(model, "waits_for_nothing", False)


def measured_throughput(model: Any, config: DictConfig) -> Throughput:
    """A meter that knows the share of the cards' peak where both the model's arithmetic and the card are known."""
    if config.hardware.accelerator != "cuda" or not supports_packing(model):
        return Throughput()
    peak = device_peak(torch.device("cuda"))
    return Throughput(training_arithmetic(model), peak * world_size_of(config) if peak else None)


def rows_of(split: TokenizedSplit | TokenizedStream) -> int | None:
    """Rows of a split; None for a stream, whose end nobody knows."""
    return len(split) if hasattr(split, "__len__") else None


def set_up_device(trainer: pl.Trainer, module: SummarizationModule) -> None:
    """What `fit` does to a process before it trains: take its own card, and join the other processes."""
    trainer.strategy.connect(module)
    trainer.strategy.setup_environment()


def best_model(
    run: Run, config: DictConfig, tokenizer: PreTrainedTokenizerBase, module: SummarizationModule, device: torch.device
) -> Any:
    """The weights of the best checkpoint, whole on this process's device, in float32 as `task=evaluate` reads them.

    Args:
        device: the strategy's. The module's own is no answer: Lightning moves it to the processor when training ends, and
            leaves it there where nothing was left to train.
    """
    if config.trainer.strategy == "fsdp":  # what was trained is in shards: the checkpoint is not
        module = SummarizationModule(
            build_model(config.model, tokenizer, config.hardware.attention), config.optim, config.scheduler, 1
        )
    module.special_loss = None  # recorded steps hold memory of the device
    module.float()  # averages of bfloat16 weights are kept in float32
    if run.best_checkpoint.exists():
        module.load_state_dict(read_checkpoint(run.best_checkpoint)["state_dict"])
    return finished_model(module.model.to(device)).eval()


def build_trainer(
    run: Run,
    config: DictConfig,
    schedule: Schedule,
    validation: GenerativeValidation,
    throughput: Throughput,
    resume: ExactResume,
    loggers: Sequence[Logger],
    strategy: Any,
) -> pl.Trainer:
    """Lightning's Trainer for one list of batches: one epoch of it, whatever the number of passes over the data."""
    return pl.Trainer(
        default_root_dir=run.folder,
        accelerator={"cuda": "gpu"}.get(config.hardware.accelerator, config.hardware.accelerator),
        devices=config.trainer.devices,
        num_nodes=config.hardware.nodes,
        strategy=strategy,
        precision=config.hardware.precision,
        max_epochs=1,
        max_steps=schedule.total_steps,
        accumulate_grad_batches=schedule.accumulation,
        val_check_interval=schedule.validate_every,
        check_val_every_n_epoch=1,
        num_sanity_val_steps=0,
        log_every_n_steps=config.trainer.log_every_n_steps,
        deterministic=config.trainer.deterministic,
        # a norm is clipped in the module, which logs it; the Trainer must know of none
        use_distributed_sampler=False,
        logger=list(loggers),
        callbacks=trainer_callbacks(run, config, schedule, validation, throughput, resume),
        # processes are ours to start (tasks/processes.py), also where Lightning would take a scheduler's variables for its own
        plugins=[AtomicCheckpointIO(), LightningEnvironment()],
        enable_model_summary=False,
        enable_progress_bar=False,  # ours: training/progress.py
        inference_mode=False,
    )


def strategy_for(config: DictConfig, packing: Packing | None) -> Any:
    """Lightning's strategy, by name or itself."""
    if config.trainer.strategy == "fsdp":
        from pytorch_lightning.strategies import ModelParallelStrategy

        # checkpoints are whole, so that any number of devices, and prediction, can read them
        return ModelParallelStrategy(
            data_parallel_size=world_size_of(config), tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    if world_size_of(config) > 1:
        return ExchangeAtStep() if packing else "ddp"  # packed steps may be recorded, and a replay runs no hooks of DDP
    return "auto"


def compile_model(model: Any) -> None:
    """Compile each repeated layer in place: one compilation serves them all, and checkpoints keep their names."""
    for layer in repeated_layers(model):
        layer.compile(dynamic=True)

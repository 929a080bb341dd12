"""task=train: prepare, train, evaluate the best checkpoint, write metrics, predictions and the model folder."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from summarizer import provenance
from summarizer.data.files import check_files
from summarizer.hardware import Device, keep_freed_memory, resolve, set_threads, world_size_of
from summarizer.metric_names import OBJECTIVE, TRAINING_STEPS
from summarizer.models.loading import load_saved_tokenizer, save_tokenizer
from summarizer.preconditions import needed_splits
from summarizer.run import Run, write_atomically
from summarizer.stages import Stage, Stages, read_stages, stage_minutes, stage_seconds
from summarizer.tasks import prepare_libraries
from summarizer.tasks.nodes import call_helpers
from summarizer.tasks.prepare import Prepared, job_tokenizer, prepare_data, scoring_notices, stored_split
from summarizer.tasks.processes import on_every_device
from summarizer.training.checkpoint_key import described
from summarizer.utilization import Samples, cards_of, sampling, utilization

log = logging.getLogger(__name__)


def train(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Train one model; with several devices in as many processes.

    Returns:
        The flat map that is also written to metrics.json.
    """
    started = time.perf_counter()
    is_new = not run.config_file.exists()
    stages = Stages(run.logs, held=not is_new)
    stages.begin()
    if config.data.kind == "files":
        check_files(config.data, needed_splits(config))
    device = set_up_process(config, overrides)
    facts = provenance.collect(device, config.seed)
    record = partial(run.record_start, config, overrides, facts, provenance.changes() if facts["dirty"] else "")
    if is_new:  # at once, so that a job that is killed while it prepares can be resumed
        provenance_file = record()
        for name, content in (provenance.new_files() if facts["dirty"] else {}).items():
            path = run.folder / provenance.NEW_FILES / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
    with stages.during(Stage.tokenizing):
        prepared = prepare_data(config, needed_splits(config), tokenizer=job_tokenizer(run))
    refuse_foreign_checkpoints(run, config, prepared)
    if not is_new:  # only now: a start that is refused leaves what is known of the job as it was
        provenance_file = record()
        stages.release()
    write_atomically(
        run.data_file, json.dumps({name: described(s) for name, s in prepared.splits.items()}, indent=1) + "\n"
    )
    if not (run.has_progress() and run.tokenizer.is_dir()):
        save_tokenizer(prepared.tokenizer, run.tokenizer)
    # the one that is stored, at every start and in every process
    prepared = replace(prepared, tokenizer=load_saved_tokenizer(run.tokenizer))
    for notice in scoring_notices(prepared.splits, ("validation", *config.evaluation.splits)):
        log.info("%s", notice)
    if world_size_of(config) > 1 or config.trainer.strategy == "fsdp":
        metrics = train_in_processes(run, config.trainer.devices)
    else:
        metrics = train_prepared(run, config, prepared, stages)
    stages.enter(Stage.ended)
    facts["seconds"] = round(time.perf_counter() - started, 1)
    facts["stages"] = stage_seconds(read_stages(run.logs))
    write_atomically(provenance_file, json.dumps(facts, indent=1) + "\n")
    return metrics


def refuse_foreign_checkpoints(run: Run, config: DictConfig, prepared: Prepared) -> None:
    """Check that this start can continue from the folder's checkpoints, if there are any.

    Raises:
        CheckpointError: they belong to another training, or none can be read.
    """
    from summarizer.training.checkpoint_key import checkpoint_key
    from summarizer.training.checkpointing import newest_good_checkpoint

    key = checkpoint_key(config, prepared.splits, prepared.tokenizer)
    files = {split: config.data[f"{split}_file"] for split in prepared.splits}
    newest_good_checkpoint(run, key, world_size_of(config), files, told=True)


def train_prepared(run: Run, config: DictConfig, prepared: Prepared, stages: Stages, rank: int = 0) -> dict[str, float]:
    """Everything after the data is there; each process of a multi-device job calls it."""
    samples_cards = rank == 0 and config.hardware.accelerator == "cuda"
    sampled: AbstractContextManager[Samples] = (
        sampling(cards_of(config.trainer.devices)) if samples_cards else nullcontext([])
    )
    with sampled as samples:
        return train_sampled(run, config, prepared, stages, rank, samples)


def train_sampled(
    run: Run, config: DictConfig, prepared: Prepared, stages: Stages, rank: int, samples: Samples
) -> dict[str, float]:
    """`train_prepared`, while utilization is sampled."""
    from summarizer.evaluation.evaluate import SplitReport, evaluate_split
    from summarizer.evaluation.words import PUBLISHED
    from summarizer.export import finish_model_folder, push_to_hub
    from summarizer.tasks.results import write_results
    from summarizer.training.fit import fit
    from summarizer.training.loggers import build_loggers, finish_loggers

    loggers = build_loggers(config, run)
    reports: list[SplitReport] = []
    measured: dict[str, float] = {}
    finished, last_step = False, None
    try:
        model, metrics = fit(
            run, config, prepared.splits, prepared.tokenizer, rank=rank, loggers=loggers, stages=stages
        )
        last_step = int(metrics[TRAINING_STEPS])
        for name in config.evaluation.splits:
            reports.append(evaluate_split(model, prepared.tokenizer, stored_split(prepared, name), config, name=name))
            measured |= reports[-1].metrics
        metrics |= measured
        if (value := metrics.get(str(config.sweep.metric))) is not None:
            measured[OBJECTIVE] = value
        if rank == 0:
            stages.enter(Stage.export)
            measured |= utilization(samples, read_stages(run.logs))
            metrics |= measured
            name, repository = prepared.corpus.name, config.export.push_to_hub
            language = reports[0].language if reports else None
            words = reports[0].rouge_tokenizer if reports else PUBLISHED
            write_results(
                run, config, reports, metrics,
                save_model=lambda: finish_model_folder(
                    run, model, prepared.tokenizer, config, metrics, name, language=language,
                    rouge_tokenizer=words,
                ),
                push_model=(lambda: push_to_hub(run, repository, private=config.export.private)) if repository else None,
            )  # fmt: skip
        finished = True
    finally:
        minutes = {} if last_step is None else stage_minutes(run.logs)
        finish_loggers(loggers, {**measured, **minutes}, step=last_step, exit_code=0 if finished else 1)
    return metrics


def train_in_processes(run: Run, devices: int) -> dict[str, float]:
    """One process per device, here and on the job's further nodes. They read the config from the job's folder."""
    call_helpers(run.folder, devices)
    on_every_device(worker, run.folder, devices)
    return run.metrics()


def worker(folder: str) -> None:
    """The body of one process of a multi-device job."""
    from summarizer import resolvers
    from summarizer.config import Config

    prepare_libraries()
    resolvers.register()
    run = Run(Path(folder))
    config = OmegaConf.merge(OmegaConf.structured(Config), run.load_config())
    assert isinstance(config, DictConfig)
    with open_dict(config):
        config.trainer.devices = int(os.environ["WORLD_SIZE"]) // config.hardware.nodes
    rank = int(os.environ["RANK"])
    stages = Stages(run.logs if rank == 0 else None)
    set_up_process(config, [])
    with stages.during(Stage.tokenizing):
        prepared = prepare_data(config, needed_splits(config), tokenizer=load_saved_tokenizer(run.tokenizer))
    train_prepared(run, config, prepared, stages, rank)


def set_up_process(config: DictConfig, overrides: list[str]) -> Device:
    """What each process that trains needs: its device checked, with the settings it trains faster with, and its threads."""
    device = resolve(config, overrides)
    keep_freed_memory()
    set_threads(config.trainer.threads, config.trainer.devices)
    return device

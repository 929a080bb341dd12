"""task=train: prepare, train, evaluate the best checkpoint, write metrics, predictions and the model folder."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from summarizer import provenance
from summarizer.data.files import check_files
from summarizer.hardware import Device, keep_freed_memory, resolve, set_threads
from summarizer.run import Run, write_atomically
from summarizer.stages import Stage, Stages, read_stages, stage_seconds
from summarizer.tasks import prepare_libraries
from summarizer.tasks.prepare import Prepared, prepare_data
from summarizer.tasks.processes import on_every_device

log = logging.getLogger(__name__)


def train(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Train one model; with several devices in as many processes.

    Returns:
        The flat map that is also written to metrics.json.
    """
    started = time.perf_counter()
    stages = Stages(run.logs)
    stages.begin()
    if config.data.kind == "files":
        check_files(config.data, ("train", "validation", *config.evaluation.splits))
    device = set_up_process(config, overrides)
    run.write_config(config, overrides)
    facts = provenance.collect(device, config.seed)
    write_atomically(run.provenance_file, json.dumps(facts, indent=1) + "\n")
    if facts["dirty"]:
        write_atomically(run.folder / "changes.diff", provenance.changes())
    with stages.during(Stage.tokenizing):
        prepared = prepare_data(config)
    if config.trainer.devices > 1 or config.trainer.strategy == "fsdp":
        metrics = train_in_processes(run, config.trainer.devices)
    else:
        metrics = train_prepared(run, config, prepared, stages)
    stages.enter(Stage.ended)
    facts["seconds"] = round(time.perf_counter() - started, 1)
    facts["stages"] = stage_seconds(read_stages(run.logs))
    write_atomically(run.provenance_file, json.dumps(facts, indent=1) + "\n")
    return metrics


def train_prepared(run: Run, config: DictConfig, prepared: Prepared, stages: Stages, rank: int = 0) -> dict[str, float]:
    """Everything after the data is there; each process of a multi-device job calls it."""
    from summarizer.evaluation.evaluate import SplitReport, evaluate_split
    from summarizer.evaluation.report import closing_report
    from summarizer.export import finish_model_folder, push_to_hub
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
        last_step = int(metrics["train/steps"])
        for name in config.evaluation.splits:
            reports.append(evaluate_split(model, prepared.tokenizer, prepared.splits[name], config, name=name))
            measured |= reports[-1].metrics
        finished = True
    finally:
        finish_loggers(loggers, measured, step=last_step, exit_code=0 if finished else 1)
    metrics |= measured
    if rank == 0:
        stages.enter(Stage.export)
        for report in reports:
            target = run.predictions_file if len(reports) == 1 else run.folder / f"predictions-{report.name}.parquet"
            report.write(target)
        run.write_metrics(metrics)
        finish_model_folder(run, model, prepared.tokenizer, config, metrics, prepared.corpus.name)
        if config.export.push_to_hub:
            push_to_hub(run, config.export.push_to_hub, private=config.export.private)
        closing_report(run, config, metrics)
    return metrics


def train_in_processes(run: Run, devices: int) -> dict[str, float]:
    """One process per device. They read the config from the job's folder."""
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
        config.trainer.devices = int(os.environ["WORLD_SIZE"])
    rank = int(os.environ["RANK"])
    stages = Stages(run.logs if rank == 0 else None)
    set_up_process(config, [])
    with stages.during(Stage.tokenizing):
        prepared = prepare_data(config)
    train_prepared(run, config, prepared, stages, rank)


def set_up_process(config: DictConfig, overrides: list[str]) -> Device:
    """What each process that trains needs: its device checked, with the settings it trains faster with, and its threads."""
    device = resolve(config, overrides)
    keep_freed_memory()
    set_threads(config.trainer.threads, config.trainer.devices)
    return device

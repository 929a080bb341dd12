"""task=train: prepare, train, evaluate the best checkpoint, write metrics, predictions and the model folder."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from summarizer import provenance
from summarizer.data.files import check_files
from summarizer.hardware import keep_freed_memory, resolve, set_threads
from summarizer.preconditions import needed_splits
from summarizer.run import Run, write_atomically
from summarizer.tasks.prepare import Prepared, prepare_data

log = logging.getLogger(__name__)


def train(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Train one model; with several devices in as many processes.

    Returns:
        The flat map that is also written to metrics.json.
    """
    started = time.perf_counter()
    if config.data.kind == "files":
        check_files(config.data, needed_splits(config))
    device = resolve(config, overrides)
    keep_freed_memory()
    run.write_config(config, overrides)
    facts = provenance.collect(device, config.seed)
    write_atomically(run.provenance_file, json.dumps(facts, indent=1) + "\n")
    if facts["dirty"]:
        write_atomically(run.folder / "changes.diff", provenance.changes())
    set_threads(config.trainer.threads, config.trainer.devices)
    prepared = prepare_data(config)
    if config.trainer.devices > 1 or config.trainer.strategy == "fsdp":
        metrics = train_in_processes(run, config.trainer.devices)
    else:
        metrics = train_prepared(run, config, prepared)
    facts["seconds"] = round(time.perf_counter() - started, 1)
    write_atomically(run.provenance_file, json.dumps(facts, indent=1) + "\n")
    return metrics


def train_prepared(run: Run, config: DictConfig, prepared: Prepared, rank: int = 0) -> dict[str, float]:
    """Everything after the data is there; each process of a multi-device job calls it."""
    from summarizer.evaluation.evaluate import SplitReport, evaluate_split
    from summarizer.export import finish_model_folder, push_to_hub
    from summarizer.tasks.results import write_results
    from summarizer.training.fit import fit
    from summarizer.training.loggers import build_loggers, finish_loggers

    loggers = build_loggers(config, run)
    reports: list[SplitReport] = []
    measured: dict[str, float] = {}
    finished = False
    try:
        model, metrics = fit(run, config, prepared.splits, prepared.tokenizer, rank=rank, loggers=loggers)
        for name in config.evaluation.splits:
            reports.append(evaluate_split(model, prepared.tokenizer, prepared.splits[name], config, name=name))
            measured |= reports[-1].metrics
        metrics |= measured
        if rank == 0:
            name, repository = prepared.corpus.name, config.export.push_to_hub
            write_results(
                run, config, reports, metrics,
                save_model=lambda: finish_model_folder(run, model, prepared.tokenizer, config, metrics, name),
                push_model=(lambda: push_to_hub(run, repository, private=config.export.private)) if repository else None,
            )  # fmt: skip
        finished = True
    finally:
        finish_loggers(loggers, measured, exit_code=0 if finished else 1)
    return metrics


def train_in_processes(run: Run, devices: int) -> dict[str, float]:
    """One process a device. They read the config from the job's folder; torch's launcher joins them and passes errors on."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    launch = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=devices, rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", max_restarts=0,
        start_method="spawn", run_id=run.folder.name,
    )  # fmt: skip
    elastic_launch(launch, worker)(str(run.folder))
    return run.metrics()


def exit_with_parent() -> None:
    """End this process when the one that started it is gone: a killed job leaves no process that writes its folder."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def worker(folder: str) -> None:
    """The body of one process of a multi-device job."""
    from summarizer import resolvers
    from summarizer.config import Config

    exit_with_parent()
    logging.basicConfig(level=logging.INFO if os.environ["RANK"] == "0" else logging.WARNING, format="%(message)s")
    resolvers.register()
    run = Run(Path(folder))
    config = OmegaConf.merge(OmegaConf.structured(Config), run.load_config())
    assert isinstance(config, DictConfig)
    with open_dict(config):
        config.trainer.devices = int(os.environ["WORLD_SIZE"])
    set_threads(config.trainer.threads, config.trainer.devices)
    train_prepared(run, config, prepare_data(config), rank=int(os.environ["RANK"]))

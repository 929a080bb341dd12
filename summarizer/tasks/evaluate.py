"""task=evaluate: a finished job's model on any split of any data, with the code and settings of training's own evaluation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from summarizer.evaluation.evaluate import evaluate_split
from summarizer.hardware import resolve, set_threads
from summarizer.models.loading import load_trained, refuse_missing_new_tokens
from summarizer.run import Run
from summarizer.tasks.prepare import prepare_data, scoring_notices, stored_split
from summarizer.tasks.results import write_results

log = logging.getLogger(__name__)


def evaluate(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Evaluate `config.run` on `config.evaluation.splits`; metrics and predictions go to this job's own folder."""
    device = resolve(config, overrides)
    set_threads(config.trainer.threads)
    run.write_config(config, overrides)
    model: Any
    model, tokenizer = load_trained(Run(Path(config.run).expanduser().resolve()).model)
    refuse_missing_new_tokens(model, config)
    model = model.to(device.accelerator)
    prepared = prepare_data(config, tuple(config.evaluation.splits), tokenizer)
    metrics: dict[str, float] = {}
    for notice in scoring_notices(prepared.splits, config.evaluation.splits):
        log.info("%s", notice)
    reports = []
    for name in config.evaluation.splits:
        reports.append(evaluate_split(model, tokenizer, stored_split(prepared, name), config, name=name))
        metrics |= reports[-1].metrics
    write_results(run, config, reports, metrics)
    return metrics

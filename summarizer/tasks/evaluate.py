"""task=evaluate: a finished job's model on any split of any data, with the code and settings of training's own evaluation."""

from __future__ import annotations

import logging
from pathlib import Path

from omegaconf import DictConfig

from summarizer.evaluation.evaluate import evaluate_split
from summarizer.evaluation.report import closing_report
from summarizer.hardware import resolve, set_threads
from summarizer.models.loading import load_trained
from summarizer.run import Run
from summarizer.tasks.prepare import prepare_data, scoring_notices

log = logging.getLogger(__name__)


def evaluate(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    """Evaluate `config.run` on `config.evaluation.splits`; metrics and predictions go to this job's own folder."""
    device = resolve(config, overrides)
    set_threads(config.trainer.threads)
    run.write_config(config, overrides)
    model, tokenizer = load_trained(Run(Path(config.run).expanduser().resolve()).model)
    model = model.to(device.accelerator)
    prepared = prepare_data(config, tuple(config.evaluation.splits), tokenizer)
    metrics: dict[str, float] = {}
    facts: dict[str, str] = {}
    several = len(config.evaluation.splits) > 1
    for notice in scoring_notices(prepared.splits, config.evaluation.splits):
        log.info("%s", notice)
    for name in config.evaluation.splits:
        report = evaluate_split(model, tokenizer, prepared.splits[name], config, name=name)
        metrics |= report.metrics
        facts |= report.facts
        report.write(run.folder / f"predictions-{name}.parquet" if several else run.predictions_file)
    run.write_metrics({**metrics, **facts})
    closing_report(run, config, {**metrics, **facts})
    return metrics

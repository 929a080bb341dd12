"""The objective: which metric the jobs of a sweep are compared by, and which way is better."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from omegaconf import DictConfig

from summarizer.errors import ConfigError
from summarizer.metric_names import TRAINING, VALIDATION


def direction_of(metric: str) -> str:
    """minimize for losses and seconds, maximize for everything else."""
    last = metric.rpartition("/")[2]
    return "minimize" if last.endswith(("loss", "seconds")) else "maximize"


def objective_is_possible(config: DictConfig) -> None:
    """Refuse a metric that no job logs, one of the test split, and a direction that would choose the worst job.

    Raises:
        ConfigError: in one sentence.
    """
    metric, direction = str(config.sweep.metric), str(config.sweep.direction)
    split = metric.partition("/")[0]
    if split == "test":
        other = metric.replace("test", "validation", 1)
        raise ConfigError(
            f"sweep.metric={metric}: the test split is reported, never searched on; use sweep.metric={other}."
        )
    # The evaluation of a whole split logs more names than a validation; those are checked when they are there.
    if metric not in VALIDATION + TRAINING and split not in config.evaluation.splits:
        raise ConfigError(no_such_metric(metric, VALIDATION + TRAINING))
    last = metric.rpartition("/")[2]
    if last.startswith(("loss", "rouge", "bertscore")) and direction != direction_of(metric):
        better = "lower" if direction_of(metric) == "minimize" else "higher"
        raise ConfigError(
            f"sweep.direction={direction} contradicts sweep.metric={metric}, where {better} is better: leave sweep.direction out."
        )


def objective(metrics: Mapping[str, float], config: DictConfig) -> float | None:
    """The value of `sweep.metric`; None where a task measures nothing, or evaluates other splits.

    Raises:
        ConfigError: a training did not log it.
    """
    metric = str(config.sweep.metric)
    if metric in metrics:
        return float(metrics[metric])
    split = metric.partition("/")[0]
    if not metrics or (config.task == "evaluate" and split not in config.evaluation.splits):
        return None
    raise ConfigError(no_such_metric(metric, [name for name in metrics if not name.startswith("test/")]))


def no_such_metric(metric: str, names: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(metric, names, n=1)
    hint = f"did you mean {close[0]}? Valid are" if close else "valid are"
    return f"sweep.metric={metric} is not logged; {hint} {', '.join(sorted(names))}."

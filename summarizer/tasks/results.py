"""The results of a job in the order of their worth: model and metrics first, then what may fail without costing them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from omegaconf import DictConfig

from summarizer.errors import Interrupted, OutputError, SummarizerError
from summarizer.evaluation.evaluate import SplitReport, bertscore_of
from summarizer.evaluation.report import closing_report
from summarizer.run import Run

log = logging.getLogger(__name__)


class OptionalSteps:
    """Steps whose failure is reported at the end and stops none of the others."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        try:
            yield
        except Interrupted:
            raise
        except SummarizerError as error:
            self.failures.append(str(error).rstrip("."))
        except Exception as error:  # libraries of the hub and of scores raise what they like
            log.debug("%s failed", name, exc_info=True)
            text = " ".join(str(error).split())[:200].rstrip(".")
            self.failures.append(f"{name} failed ({type(error).__name__}: {text})")


def write_results(
    run: Run,
    config: DictConfig,
    reports: Sequence[SplitReport],
    metrics: dict[str, float],
    *,
    save_model: Callable[[], None] | None = None,
    push_model: Callable[[], None] | None = None,
) -> None:
    """Write model and metrics, then predictions, optional scores, the pushed model and the closing report.

    Args:
        metrics: what was measured; optional scores are added to it.
        save_model: writes the model folder; None for a job that trains none.
        push_model: uploads it.

    Raises:
        OutputError: a step failed. After the first two, in one sentence with all that failed: model and metrics are there.
    """
    facts = {key: text for report in reports for key, text in report.facts.items()}  # loggers take the numbers alone
    if save_model is not None:
        save_model()
    run.write_metrics({**metrics, **facts})
    optional = OptionalSteps()
    for report in reports:
        path = run.predictions_file if len(reports) == 1 else run.folder / f"predictions-{report.name}.parquet"
        with optional.step(f"writing {path.name}"):
            report.write(path)
    if config.evaluation.bertscore:
        for report in reports:
            with optional.step("evaluation.bertscore"):
                metrics |= bertscore_of(report, config.evaluation.bertscore_model)
        with optional.step("writing metrics.json"):
            run.write_metrics({**metrics, **facts})
    if push_model is not None:
        with optional.step("export.push_to_hub"):
            push_model()
    with optional.step("the closing report"):
        closing_report(run, config, {**metrics, **facts})
    if optional.failures:
        kept = f"Metrics are complete in {run.folder}."
        if save_model is not None:
            kept = f"Metrics and model are complete in {run.folder}; to try again: `python -m summarizer resume={run.folder}`."
        raise OutputError(f"{'; '.join(optional.failures)}. {kept}")

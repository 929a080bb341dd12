"""task=dashboard: the W&B workspace of the project and, with `runs=`, a W&B report about these runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from omegaconf import DictConfig

from summarizer.dashboard.panels import sections
from summarizer.dashboard.server import ServerTrouble, account, address, has_project
from summarizer.errors import ConfigError, HubError, SummarizerError

if TYPE_CHECKING:
    from summarizer.dashboard.views import Saved
    from summarizer.report.comparison_page import Comparison

log = logging.getLogger(__name__)
T = TypeVar("T")
SECONDS = 120
"""How long saving may take; the library itself would try for hours."""
ROWS = 20
"""Runs in the table of a report; its panels have all of them."""


def dashboard(config: DictConfig) -> list[Saved]:
    """Create or update the workspace and, with `runs=`, the report; a second time changes nothing.

    Raises:
        ConfigError: the package is missing, no run of `runs` logged to W&B, or the project is not there.
        HubError: W&B does not answer, or refuses.
    """
    log.info("Asking %s for %s ...", address(), config.logger.project)
    entity = destination(config)
    load_library()
    comparison = None
    if config.runs:
        from summarizer.tasks.report import comparison_of

        comparison = comparison_of(config)
    saved = within(SECONDS, lambda: save(config, entity, comparison))
    for view in saved:
        print(f"{view.change.capitalize()}: {view.title}: {view.url}", flush=True)
    return saved


def save(config: DictConfig, entity: str, comparison: Comparison | None) -> list[Saved]:
    from summarizer.dashboard import views

    project, maximize = str(config.logger.project), str(config.sweep.direction) == "maximize"
    saved = [views.save_workspace(views.workspace(entity, project, sections(), maximize))]
    if comparison is not None:
        title = str(config.report.title or f"Runs of {Path(comparison.best.folder).parent.name}")[:128]
        shown = sections(comparison.keys[:8]) if comparison.keys else sections()
        saved.append(
            views.save_report(
                views.report(entity, project, title, text_of(comparison), ids_of(comparison), shown, maximize)
            )
        )
    return saved


def load_library() -> None:
    """Import the package, silently.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        import wandb_workspaces  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "task=dashboard needs the wandb-workspaces package: pip install 'summarizer[dashboards]'."
        ) from error


def destination(config: DictConfig) -> str:
    """The entity that the dashboard belongs to.

    Raises:
        ConfigError: the entity or project is missing or hidden from this key.
        HubError: W&B does not answer, or refuses the key.
    """
    project = str(config.logger.project)
    try:
        mine = account()
        entity = str(config.logger.entity or mine.entity)
        there = has_project(entity, project)
    except ServerTrouble as trouble:
        raise HubError(
            f"No dashboard at {address()}: {trouble}. Set WANDB_API_KEY (and WANDB_BASE_URL for a server of your own) and "
            "run the command again."
        ) from trouble
    if there:
        return entity
    if entity not in mine.entities:
        raise ConfigError(
            f"logger.entity={entity}: this W&B key sees no project {project} there; its own entities are "
            f"{', '.join(mine.entities)}: set logger.entity to one of them, or use a key of a member."
        )
    raise ConfigError(
        f"W&B has no project {entity}/{project}: train once with logger=wandb logger.project={project}, upload offline runs "
        "with `wandb sync`, or set logger.project to a project that exists."
    )


def within(seconds: float, call: Callable[[], T]) -> T:
    """The result of a call that asks W&B, which may wait for a server without end.

    Raises:
        HubError: it failed or took longer; the key is in no text.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    if errors and isinstance(errors[0], SummarizerError):
        raise errors[0]
    if errors:
        words = " ".join(str(errors[0]).split()).replace(os.environ.get("WANDB_API_KEY") or "\0", "***")
        reason = f"{type(errors[0]).__name__}: {words[:200]}"
    else:
        reason = f"no answer within {seconds:g} s"
    raise HubError(
        f"W&B did not save the dashboard ({reason}): check that the key may write to the project, then run the command again."
    )


def ids_of(c: Comparison) -> list[str]:
    """W&B's ids of the runs, sorted.

    Raises:
        ConfigError: none of them logged to W&B.
    """
    files = [run.folder / "logs" / "wandb-id" for run in c.runs]
    found = sorted(file.read_text().strip() for file in files if file.is_file())
    if not found:
        raise ConfigError(
            f"none of the {len(c.runs)} runs logged to W&B: train with logger=wandb, or leave runs= out to update the "
            "workspace alone."
        )
    for file in files:
        if not file.is_file():
            log.warning("left out of the report's panels: %s did not log to W&B.", file.parent.parent)
    return found


def text_of(c: Comparison) -> str:
    """The report's text: the question, the best run with its command, a table. Texts of runs are shown as code."""
    from summarizer.report.axes import number
    from summarizer.report.differences import show, value_of

    keys = c.keys[:4]
    header = ["run", *keys, c.metric, "test ROUGE-L (95 % interval)", "minutes", "$"]
    rows = []
    for run in c.runs[:ROWS]:
        low, high = run.metrics.get("test/rougeL_low"), run.metrics.get("test/rougeL_high")
        rouge = "-" if low is None or high is None else f"{run.metrics['test/rougeL']:.2f} ({low:.2f} to {high:.2f})"
        cells = [code(run.label), *(code(show(value_of(run, key))) for key in keys), number(c.value(run)), rouge]
        cells += [
            "-" if run.minutes is None else f"{run.minutes:.1f}",
            "-" if run.dollars is None else f"{run.dollars:.2f}",
        ]
        rows.append(cells)
    lines = [
        f"{len(c.runs)} runs by {c.metric}, {'highest' if c.maximize else 'lowest'} first. Best: {code(c.best.label)} with "
        f"{number(c.value(c.best))}, by {code('python -m summarizer ' + ' '.join(c.best.overrides))}.",
        "",
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    if len(c.runs) > ROWS:
        lines += ["", f"{len(c.runs) - ROWS} more runs are in the panels below."]
    return "\n".join(lines)


def code(text: str) -> str:
    """A text of a run, which is untrusted, as inline code of Markdown."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "/").split())[:300] + "`"

"""Where metrics go: csv, TensorBoard, Weights & Biases, or several. None of them may stop or delay a training."""

from __future__ import annotations

import json
import logging
import os
import urllib.error
import urllib.request
import uuid
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from summarizer.errors import ConfigError
from summarizer.run import Run, write_atomically

log = logging.getLogger(__name__)

PROBE_SECONDS = 4
INIT_SECONDS = 10
COLUMNS = ("id", "document", "reference", "summary")
Sample = tuple[str, str, str, str]


def build_loggers(config: Any, run: Run) -> list[Logger]:
    """The loggers that `config.logger` turns on.

    Raises:
        ConfigError: TensorBoard asked for, but not installed.
    """
    loggers: list[Logger] = []
    if config.logger.csv:
        loggers.append(CSVLogger(run.logs, name="", version=""))
    if config.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(run.logs, name="tensorboard", version=""))
        except ModuleNotFoundError as error:
            raise ConfigError(
                "logger.tensorboard needs the tensorboard package: pip install 'summarizer[tensorboard]' or set logger=csv."
            ) from error
    if config.logger.wandb and os.environ.get("RANK", "0") == "0":
        wandb_logger = build_wandb(config, run)
        if wandb_logger is not None:
            loggers.append(wandb_logger)
    return loggers


def build_wandb(config: Any, run: Run) -> Logger | None:
    """One W&B run a job, the same after a restart; None (and a sentence) where W&B fails altogether."""
    from omegaconf import OmegaConf

    reason = offline_reason()
    if reason:
        log.warning("W&B goes offline: %s; later: wandb sync %s/wandb/offline-run-*", reason, run.logs)
    settings = config.logger
    tags = [*settings.tags, config.model.name, config.data.name, config.hardware.name, str(config.provider.name)]
    try:
        import wandb

        built = WandbLogger(
            project=settings.project, entity=settings.entity, group=settings.group or run.folder.parent.name,
            name=f"{run.folder.parent.name}/{run.folder.name}", tags=list(dict.fromkeys(tags)), save_dir=str(run.logs),
            id=run_id(run), resume="allow", offline=bool(reason), config=OmegaConf.to_container(config, resolve=True),
            settings=wandb.Settings(console="off", init_timeout=INIT_SECONDS),
        )  # fmt: skip
        _ = built.experiment  # a failure shows here and not in the first step
        return built
    except Exception as error:  # whatever it is, the training goes on
        log.warning("W&B does not start (%s): this job goes on without it.", type(error).__name__)
        return None


def run_id(run: Run) -> str:
    """The id kept in the job's folder, made at its first start."""
    path = run.logs / "wandb-id"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, uuid.uuid4().hex[:12])
    return path.read_text().strip()


def offline_reason() -> str | None:
    """Why W&B cannot be used online, None where it can: asked here, since its own attempts take far longer."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return f"WANDB_MODE={os.environ['WANDB_MODE']}"
    key = os.environ.get("WANDB_API_KEY")
    if not key:
        return "WANDB_API_KEY is not set"
    base = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    request = urllib.request.Request(
        f"{base}/graphql",
        data=json.dumps({"operationName": "Viewer", "query": "query Viewer { viewer { id } }"}).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Basic " + b64encode(f"api:{key}".encode()).decode()},
    )
    try:
        with urllib.request.urlopen(request, timeout=PROBE_SECONDS) as answer:
            viewer = (json.load(answer).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        return "the key is refused" if error.code in (401, 403) else f"the server answers {error.code}"
    except (OSError, ValueError, AttributeError):
        return "the server does not answer"
    return None if viewer else "the key is refused"


def log_samples(loggers: Sequence[Logger], step: int, rows: Sequence[Sample]) -> None:
    """A table of sample predictions to every logger: wandb.Table, TensorBoard text, samples/step-N.jsonl beside the csv."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table("samples", columns=list(COLUMNS), data=[list(row) for row in rows], step=step)
        elif isinstance(logger, TensorBoardLogger):
            text = "\n\n".join(f"**{reference}**\n\n{summary}" for _, _, reference, summary in rows)
            logger.experiment.add_text("samples", text, step)
        elif isinstance(logger, CSVLogger):
            from pathlib import Path

            folder = Path(logger.log_dir) / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
            write_atomically(folder / f"step-{step}.jsonl", "\n".join(lines) + "\n")

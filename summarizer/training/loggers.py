"""Where metrics go: csv, TensorBoard, Weights & Biases, or several. None of them may stop or delay a training."""

from __future__ import annotations

import json
import logging
import os
import shlex
import threading
import time
import uuid
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning_fabric.loggers.logger import rank_zero_experiment
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from summarizer.dashboard.server import ServerTrouble, account
from summarizer.errors import ConfigError
from summarizer.metric_names import DOLLARS, GPU_HOURS, RENTAL, SAMPLES, STEP
from summarizer.rental import Rental, read_rental
from summarizer.run import Run, write_atomically

log = logging.getLogger(__name__)

INIT_SECONDS = 10
TABLE_SECONDS = 5
"""A table is an artifact, and W&B asks the server about it in the calling thread."""
FINISH_SECONDS = 20
"""How long the end of a job waits for uploads; what is left stays on disk for `wandb sync`."""
COLUMNS = ("id", "document", "reference", "summary")
Sample = tuple[str, str, str, str]


class ContinuedCSVLogger(CSVLogger):
    """metrics.csv that a restarted job goes on with; the stock logger deletes what the first start wrote.

    Steps that were lost to a kill are logged a second time: of two rows of one step the later one counts.
    """

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        if self._experiment is not None:
            return self._experiment
        path = Path(self.log_dir) / "metrics.csv"
        earlier = path.read_bytes() if path.exists() else b""
        earlier = earlier[: earlier.rfind(b"\n") + 1]  # without the half line of a kill
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            writer: Any = super().experiment
        if earlier:
            write_atomically(path, earlier)
            writer.metrics_keys = earlier.decode().splitlines()[0].split(",")
        return writer


class BoundedWandbLogger(WandbLogger):
    """W&B that gives up, with one sentence, where the stock logger would raise or wait."""

    logs_metrics = logs_tables = True
    rental: Rental | None = None

    @property
    def sync_command(self) -> str:
        """What uploads the run's own folder later; W&B skips one that began online unless told otherwise."""
        run: Any = self._experiment
        folder = Path(run.dir).parent
        online = "" if folder.name.startswith("offline-") else "--include-online "
        return f"wandb sync {online}{shlex.quote(str(folder))}"

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Handed over to W&B's own process, which writes it down before it asks any server."""
        if not self.logs_metrics:
            return
        now = time.time()
        money = {DOLLARS: self.rental.dollars(now), GPU_HOURS: self.rental.gpu_hours(now)} if self.rental else {}
        try:
            super().log_metrics({**metrics, **money}, step)
        except Exception as error:  # whatever it is, the training goes on
            self.logs_metrics = False
            log.warning("W&B takes no more metrics (%s): this job goes on without it.", type(error).__name__)

    def log_samples(self, step: int, rows: Sequence[Sample]) -> None:
        """A wandb.Table, logged aside so that a silent server cannot hold up a step."""
        if not self.logs_tables:
            return
        import wandb

        run: Any = self._experiment
        table = wandb.Table(columns=list(COLUMNS), data=[list(row) for row in rows])
        failures: list[str] = []

        def send() -> None:
            try:
                run.log({SAMPLES: table, STEP: step})
            except Exception as error:
                failures.append(type(error).__name__)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        thread.join(TABLE_SECONDS)
        if thread.is_alive() or failures:
            self.logs_tables = False
            reason = failures[0] if failures else f"no answer within {TABLE_SECONDS} s"
            log.warning(
                "W&B took no table of samples (%s): metrics are kept on disk; later: %s", reason, self.sync_command
            )

    def finish(self, exit_code: int) -> None:
        """End the run; uploads have `FINISH_SECONDS` to come to their end."""
        run: Any = self._experiment
        try:
            run.finish(exit_code=exit_code)
        except Exception as error:
            log.warning("W&B: not all was uploaded (%s); later: %s", type(error).__name__, self.sync_command)


def build_loggers(config: Any, run: Run) -> list[Logger]:
    """The loggers that `config.logger` turns on.

    Raises:
        ConfigError: TensorBoard asked for, but not installed.
    """
    loggers: list[Logger] = []
    if config.logger.csv:
        loggers.append(ContinuedCSVLogger(run.logs, name="", version=""))
    if config.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(run.logs, name="tensorboard", version=""))
        except ModuleNotFoundError as error:
            raise ConfigError(
                "logger.tensorboard needs the tensorboard package: "
                "pip install 'summarizer[tensorboard]' or set logger=csv."
            ) from error
    if config.logger.wandb and os.environ.get("RANK", "0") == "0":
        wandb_logger = build_wandb(config, run)
        if wandb_logger is not None:
            loggers.append(wandb_logger)
    return loggers


def build_wandb(config: Any, run: Run) -> BoundedWandbLogger | None:
    """One W&B run a job, the same after a restart; None (and a sentence) where W&B fails altogether."""
    reason = offline_reason()
    if reason:
        log.warning("W&B goes offline: %s; later: wandb sync %s/wandb/offline-run-*", reason, run.logs)
    started = None if reason else start_wandb(config, run, "online")
    if started is None and not reason:
        import wandb

        wandb.teardown(exit_code=1)  # its service still holds the run's id
    return started or start_wandb(config, run, "offline")


def start_wandb(config: Any, run: Run, mode: Literal["online", "offline"]) -> BoundedWandbLogger | None:
    """The run, begun here so that a failure shows now and not in the first step; None (and a sentence) if it fails."""
    from omegaconf import OmegaConf

    options, rental = config.logger, rental_of(config, run)
    tags = [*options.tags, config.model.name, config.data.name, config.hardware.name, str(config.provider.name)]
    try:
        import wandb

        if wandb.run is not None:  # an earlier job of this process
            wandb.finish()
        composed: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        known = wandb.Settings.model_fields
        bounds: dict[str, Any] = {
            "init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS, "finish_timeout_raises": True,
            "x_graphql_timeout_seconds": INIT_SECONDS,
        }  # fmt: skip
        settings = {name: value for name, value in bounds.items() if name in known}
        experiment = wandb.init(
            project=options.project, entity=options.entity, group=options.group or run.folder.parent.name,
            name=f"{run.folder.parent.name}/{run.folder.name}", tags=list(dict.fromkeys(tags)), dir=str(run.logs),
            id=run_id(run), resume="allow", mode=mode,
            config={**composed, RENTAL: rental.settings()},
            settings=wandb.Settings(console="off", silent=True, **settings),
        )  # fmt: skip
        experiment.define_metric(STEP)
        experiment.define_metric("*", step_metric=STEP, step_sync=True)
        built = BoundedWandbLogger(experiment=experiment, save_dir=str(run.logs))
        built.rental = rental
        return built
    except Exception as error:
        then = "this job goes on offline" if mode == "online" else "this job goes on without it"
        log.warning("W&B does not start %s (%s): %s.", mode, type(error).__name__, then)
        return None


def rental_of(config: Any, run: Run) -> Rental:
    """Where this start runs and what an hour costs: by whoever rented the machine, else what the job knows itself."""
    on_gpu = config.hardware.accelerator == "cuda"
    return read_rental().or_else(
        gpu=(config.hardware.gpu or config.hardware.name) if on_gpu else str(config.hardware.accelerator),
        num_gpus=int(config.trainer.devices) if on_gpu else 0,
        restarts=len(list(run.resumed.glob("*.yaml"))),
    )


def finish_loggers(
    loggers: Sequence[Logger],
    metrics: Mapping[str, float] | None = None,
    *,
    step: int | None = None,
    exit_code: int = 0,
) -> None:
    """Log a job's last figures (the test split's, at its last step) and end its W&B run, so that the next job begins its own."""
    for logger in loggers:
        if metrics and not isinstance(logger, CSVLogger):  # the table's columns are closed; metrics.json has them
            logger.log_metrics(dict(metrics), step)
            logger.save()
        if isinstance(logger, BoundedWandbLogger):
            logger.finish(exit_code)


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
    try:
        account()
    except ServerTrouble as trouble:
        return str(trouble)
    return None


def log_samples(loggers: Sequence[Logger], step: int, rows: Sequence[Sample]) -> None:
    """A table of sample predictions to every logger: wandb.Table, TensorBoard text, samples/step-N.jsonl by the csv."""
    for logger in loggers:
        if isinstance(logger, BoundedWandbLogger):
            logger.log_samples(step, rows)
        elif isinstance(logger, TensorBoardLogger):
            text = "\n\n".join(f"**{reference}**\n\n{summary}" for _, _, reference, summary in rows)
            logger.experiment.add_text("samples", text, step)
        elif isinstance(logger, CSVLogger):
            folder = Path(logger.log_dir) / "samples"
            folder.mkdir(parents=True, exist_ok=True)
            lines = [json.dumps(dict(zip(COLUMNS, row, strict=True)), ensure_ascii=False) for row in rows]
            write_atomically(folder / f"step-{step}.jsonl", "\n".join(lines) + "\n")

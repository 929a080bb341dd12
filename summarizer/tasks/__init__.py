"""What a job does: one function a task, called with the composed config and the job's folder.

`run_task` is what every job goes through, here or on a rented machine: guard, folder, state, the task, its end. This
package imports torch and the rest only when a task starts.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from summarizer.checks import check
from summarizer.config import Task
from summarizer.errors import ConfigError, Interrupted, OutputError
from summarizer.run import FAILED, FINISHED, INTERRUPTED, OBJECTIVE, RUNNING, Run

log = logging.getLogger(__name__)


def run_task(config: DictConfig) -> float | None:
    """Run one job in the folder that Hydra names.

    Returns:
        The value a sweep optimises (`test/rougeL` of a training or evaluation), None for the other tasks.

    Raises:
        SummarizerError: in one sentence, after the folder's status says so.
    """
    hydra_config = HydraConfig.get()
    run = Run(Path(hydra_config.runtime.output_dir).resolve())
    overrides = list(hydra_config.overrides.task)
    config = settle(config, overrides)
    check(config)
    refuse_foreign_provider(config)
    if run.status().get("state") == FINISHED and config.task == Task.train:
        return already_finished(run, config)
    run.claim()
    run.set_status(RUNNING, task=str(config.task))
    started = time.time()
    prepare_libraries()
    try:
        metrics = dispatch(run, config, overrides)
    except BaseException as error:
        ended = as_interruption(error, run, config)
        with suppress(OutputError):  # a full disk must not hide what went wrong
            state = INTERRUPTED if isinstance(ended, Interrupted) else FAILED
            run.set_status(state, task=str(config.task), error=f"{type(ended).__name__}: {ended}"[:2000])
        if ended is error:
            raise
        raise ended from error
    run.set_status(FINISHED, task=str(config.task), seconds=time.time() - started)
    name_folder(run, config)
    return metrics.get(OBJECTIVE)


def as_interruption(error: BaseException, run: Run, config: DictConfig) -> BaseException:
    """The same end for a signal in whichever part of a job it came; any other error is returned as it is."""
    from summarizer.training.interruption import is_stop, resume_command

    if not is_stop(error) or isinstance(error, Interrupted):
        return error
    if config.task == Task.train:
        return Interrupted(f"Stopped; the last checkpoint is kept. Continue: {resume_command(run.folder)}")
    return Interrupted("Stopped before the end. To start anew, give the same command again.")


def prepare_libraries() -> None:
    """Settings that libraries read once: threads that share the machine, and bars on terminals only (in a log they are noise).

    Through the environment, before their import: a misspelt path should not wait for transformers.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads that wait for each other spin for microseconds, then sleep: docs/recipe.md has the figures.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # kernels for products of bfloat16 on a processor, one a shape: batches have more shapes than its 1,024 places
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    for name in ("absl", "fsspec", "httpx", "filelock"):
        logging.getLogger(name).setLevel(logging.WARNING)


def dispatch(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    if config.task == Task.train:
        from summarizer.tasks.train import train

        return train(run, config, overrides)
    if config.task == Task.evaluate:
        from summarizer.tasks.evaluate import evaluate

        return evaluate(run, config, overrides)
    if config.task == Task.predict:
        from summarizer.tasks.predict import predict

        predict(run, config, overrides)
        return {}
    from summarizer.tasks.prepare import prepare

    prepare(run, config, overrides)
    return {}


def name_folder(run: Run, config: DictConfig) -> None:
    """The last line of every finished job. Summaries on standard output are piped on: there it goes to standard error."""
    piped = config.task == Task.predict and config.predict.output == "-"
    print(f"The job's folder: {run.folder}", file=sys.stderr if piped else sys.stdout, flush=True)


def settle(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The config this job really has: for `resume` and `run` that of the named job, in which what this command line
    names is replaced (a group as a whole, a single key alone)."""
    named = config.resume or (config.run if config.task in (Task.evaluate, Task.predict) else None)
    if not named:
        return config
    saved = Run(Path(named).expanduser().resolve()).load_config()
    settled = OmegaConf.merge(config, saved)  # the schema of the one, the values of the other
    assert isinstance(settled, DictConfig)
    for key in ("task", "run", "resume", "input", "predict", "provider"):
        OmegaConf.update(settled, key, config[key], merge=False)
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].split("@")[0]
        if OmegaConf.select(config, key) is not None or key in config:
            OmegaConf.update(settled, key, OmegaConf.select(config, key), merge=False)
    return settled


def refuse_foreign_provider(config: DictConfig) -> None:
    """A job whose provider is a cloud never trains here: with stock launchers, `-m provider=local,vast` would."""
    provider = str(config.provider.name)
    if provider != "local":
        raise ConfigError(
            f"this job belongs to provider={provider}, but was started on this machine: start it without hydra.mode=RUN and "
            "hydra/launcher=, so that the provider's own launcher takes it."
        )


def already_finished(run: Run, config: DictConfig) -> float | None:
    """A finished job is not run twice: its value is read from its folder.

    Raises:
        ConfigError: the folder holds another job.
    """
    saved = run.load_config()
    fresh = OmegaConf.to_container(config, resolve=True)
    old = OmegaConf.to_container(saved, resolve=True)
    assert isinstance(fresh, dict)
    assert isinstance(old, dict)
    differing = [
        key
        for key in ("model", "data", "optim", "scheduler", "seed", "generation")
        if not same(fresh[key], old.get(key))
    ]
    if differing and not config.resume:
        raise ConfigError(
            f"{run.folder} holds a finished job of another {' and '.join(differing)}: name another hydra.sweep.dir."
        )
    log.info("already finished: %s", run.folder)
    name_folder(run, config)
    return run.metrics().get(OBJECTIVE)


def same(a: Any, b: Any) -> bool:
    """Equal as YAML says it: an Enum and its name are one."""
    return OmegaConf.to_yaml(OmegaConf.create({"x": a})) == OmegaConf.to_yaml(OmegaConf.create({"x": b}))

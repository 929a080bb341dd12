"""What a job does: one function a task, called with the composed config and the job's folder.

`run_task` is what every job goes through, here or on a rented machine: guard, folder, state, the task, its end. This
package imports torch and the rest only when a task starts.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from summarizer.checks import check
from summarizer.config import Task
from summarizer.errors import ConfigError, DataError, Interrupted, OutputError, SummarizerError
from summarizer.objective import objective
from summarizer.preconditions import check_machine
from summarizer.run import (
    DECIDING,
    FAILED,
    FINISHED,
    INTERRUPTED,
    PLACES,
    RUNNING,
    Run,
    changed_settings,
    flat,
    read_json,
)
from summarizer.storage.job import stored

log = logging.getLogger(__name__)


def run_task(config: DictConfig) -> float | None:
    """Run one job in the folder that Hydra names.

    Returns:
        The value that a sweep compares jobs by (`sweep.metric`), None for tasks that have none.

    Raises:
        SummarizerError: in one sentence, after the folder's status says so.
    """
    hydra_config = HydraConfig.get()
    run = Run(Path(hydra_config.runtime.output_dir).resolve())
    overrides = of_one_job(hydra_config)
    config = settle(config, overrides)
    check(config, settled=True)
    refuse_foreign_provider(config)
    if config.task in KEEPS_NO_FOLDER:
        without_folder(config, overrides)
        return None
    if run.status().get("state") == FINISHED and config.task == Task.train:
        value = already_finished(run, config)
        name_folder(run)
        return value
    check_machine(config)
    run.claim()
    prepare_libraries()
    if config.task == Task.train:
        with stored(run, config, int(hydra_config.job.num)):
            was_done = run.status().get("state") == FINISHED  # elsewhere, and its storage brought it here
            value = already_finished(run, config) if was_done else claimed(run, config, overrides)
    else:
        value = claimed(run, config, overrides)
    name_folder(run)
    return value


def of_one_job(hydra_config: Any) -> list[str]:
    """The overrides that make this job alone, for its folder: without those that make it one of many."""
    left_out = hydra_config.sweeper.get("only_in_sweeps") or ()
    return [str(o) for o in hydra_config.overrides.task if str(o).partition("=")[0] not in left_out]


def claimed(run: Run, config: DictConfig, overrides: list[str]) -> float | None:
    """`run_task` in a folder that is this process's own."""
    before, starts = run.status(), run.accepted_starts()
    run.set_status(RUNNING, task=str(config.task))
    started = time.time()
    try:
        metrics = dispatch(run, config, overrides)
    except BaseException as error:
        ended = as_interruption(error, run, config)
        with suppress(OutputError):  # a full disk must not hide what went wrong
            if before and isinstance(error, SummarizerError) and run.accepted_starts() == starts:
                run.restore_status(before)  # this start was refused: the job is as it was
            else:
                state = INTERRUPTED if isinstance(ended, Interrupted) else FAILED
                run.set_status(state, task=str(config.task), error=f"{type(ended).__name__}: {ended}"[:2000])
        if ended is error:
            raise
        raise ended from error
    run.set_status(FINISHED, task=str(config.task), seconds=time.time() - started)
    if config.task in (Task.train, Task.evaluate):
        write_page(run)
    return objective(metrics, config)


def write_page(run: Run) -> None:
    """`report.html` of a finished job. Its figures are safe by now: whatever goes wrong here is a warning."""
    try:
        from summarizer.report.build import write_run_report

        print(f"Report: {write_run_report(run.folder)}", flush=True)
    except Exception as error:
        log.warning(
            "report.html could not be written (%s: %s); later: python -m summarizer task=report runs=%s",
            type(error).__name__, str(error)[:200], run.folder,
        )  # fmt: skip


KEEPS_NO_FOLDER = (Task.predict, Task.report, Task.compare, Task.dashboard)
"""Tasks that leave nothing but their output: no folder, no job.log."""


def without_folder(config: DictConfig, overrides: list[str]) -> None:
    """One of the tasks that keep no folder."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler):
            root.removeHandler(handler)
            handler.close()
    if config.task == Task.predict:
        prepare_libraries()
        from summarizer.tasks.predict import predict

        predict(config, overrides)
        return
    if config.task == Task.dashboard:
        from summarizer.tasks.dashboard import dashboard

        dashboard(config)
        return
    from summarizer.tasks.report import compare, report

    (report if config.task == Task.report else compare)(config)


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

    Through the environment, before their import: a misspelled path should not wait for transformers.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "OMP_WAIT_POLICY" not in os.environ:
        # Threads that wait for each other spin for microseconds, then sleep: docs/recipe.md has the figures.
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # kernels for products of bfloat16 on a processor, one a shape: batches have more shapes than its 1,024 places
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    quiet_libraries()


OWN_LOGGERS = ("summarizer", "launchers", "hydra", "root", "__main__")


def is_ours_or_a_warning(record: logging.LogRecord) -> bool:
    """Whether a person should read a record: what libraries do (one line for each HTTP request) is not the job's news."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] in OWN_LOGGERS


FOR_PROGRAMMERS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)


def quiet_libraries() -> None:
    """Keep out of the console and job.log what is not for the person who runs a job, by what it is, whoever says it: libraries'
    INFO records, and warnings to programmers that a call will change, unless `python -W` asks for warnings."""
    if not sys.warnoptions:
        for category in FOR_PROGRAMMERS:
            warnings.simplefilter("ignore", category)
    for handler in logging.getLogger().handlers:
        handler.addFilter(is_ours_or_a_warning)  # the same function is added once


def dispatch(run: Run, config: DictConfig, overrides: list[str]) -> dict[str, float]:
    if config.task == Task.train:
        from summarizer.tasks.train import train

        return train(run, config, overrides)
    if config.task == Task.evaluate:
        from summarizer.tasks.evaluate import evaluate

        return evaluate(run, config, overrides)
    from summarizer.tasks.prepare import prepare

    prepare(run, config, overrides)
    return {}


def name_folder(run: Run) -> None:
    """The last line of every finished job."""
    print(f"The job's folder: {run.folder}", flush=True)


OF_THIS_COMMAND = ("task", "run", "resume", "input", "predict", "provider", "sweep")
OF_THIS_MACHINE = ("hardware", "trainer.devices", "trainer.strategy", "trainer.threads")
"""A model is used on whatever machine it is asked on; a training goes on where its own settings can be kept."""


def settle(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The config this job really has: for `resume` and `run` that of the named job, in which what this command line
    names is replaced (a group as a whole, a single key alone)."""
    uses_model = config.task in (Task.evaluate, Task.predict)
    named = config.resume or (config.run if uses_model else None)
    if not named:
        return config
    complete = Run(Path(named).expanduser().resolve()).load_config()
    saved = learned_with(complete)
    if config.resume and OmegaConf.select(complete, "logger.wandb") and not config.logger.wandb:
        log.warning("This job logged to W&B until now; to go on there, add logger=wandb.")
    settled = OmegaConf.merge(config, saved)  # the schema of the one, the values of the other
    assert isinstance(settled, DictConfig)
    for key in OF_THIS_COMMAND + (OF_THIS_MACHINE if uses_model else ()):
        OmegaConf.update(settled, key, OmegaConf.select(config, key), merge=False)
    for override in overrides:
        key = override.lstrip("+~").partition("=")[0].split("@")[0]
        parent, _, leaf = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if OmegaConf.is_dict(node) and leaf in node:  # null is a value as others are
            OmegaConf.update(settled, key, OmegaConf.select(config, key), merge=False)
    return settled


LEARNED_WITH = (
    "name", "seed", "model", "data", "hardware", "optim", "scheduler", "trainer", "generation", "callbacks", "evaluation",
)  # fmt: skip
"""What of a saved config says how a job learned and writes."""


def learned_with(saved: DictConfig) -> DictConfig:
    """What another command may take over of a saved config: a rented machine may have written it.

    So nothing in it decides what is sent where (`export`, `logger`), whose code runs, or where files are written here.
    """
    kept = OmegaConf.masked_copy(saved, [key for key in LEARNED_WITH if key in saved])
    for group, key in (("model", "trust_remote_code"), ("data", "cache_dir")):
        if isinstance(kept.get(group), DictConfig):
            kept[group].pop(key, None)
    return kept


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
        ConfigError: the folder holds another job, or one of other data.
    """
    saved = run.load_config()
    known = read_json(run.data_file)
    then = flat(saved)  # without keys that the schema has got since
    changes = [key for key in changed_settings(saved, config) if key in then]
    differing = [key for key in changes if key.partition(".")[0] in DECIDING]
    if known:  # then content is compared, not names
        differing = [key for key in differing if key not in PLACES]
    if config.resume:
        differing += [key for key in changes if key in ("trainer.max_epochs", "trainer.max_steps")]
    if differing and config.resume:
        raise ConfigError(
            f"{run.folder} holds a finished job, whose {', '.join(differing)} cannot be changed any more: start a new run in another "
            f"folder (hydra.sweep.dir=<folder>, without resume), or evaluate its model with task=evaluate run={run.folder}."
        )
    if differing:
        raise ConfigError(
            f"{run.folder} holds a finished job of another {', '.join(differing)}: name another hydra.sweep.dir."
        )
    changed = changed_files(config, known)
    if changed:
        raise ConfigError(
            f"{run.folder} holds a finished job of other data ({'; '.join(changed)}): restore the files, or name another "
            "hydra.sweep.dir, without resume."
        )
    log.info("already finished: %s", run.folder)
    return objective(run.metrics(), config)


def changed_files(config: DictConfig, known: Mapping[str, Any]) -> list[str]:
    """Which of a finished job's own files hold other rows than it was trained and scored on. One that is not here, as that of
    a job from another machine, says nothing; corpora that are built or come from a hub are not asked for again."""
    if config.data.kind != "files":
        return []
    from summarizer.data.corpus import load_corpus

    found = []
    for split, then in known.items():
        try:
            corpus = load_corpus(config.data, (split,))
        except DataError:
            continue
        if corpus.fingerprint(split) != then["fingerprint"]:
            rows = corpus.splits[split]
            now = f" -> {len(rows)}" if hasattr(rows, "__len__") else ""
            found.append(f"{split}: {then['rows']} rows{now}" if then["rows"] else split)
    return found

"""Runs jobs one after another in this process; it is also what runs a job on a rented machine, below the supervisor."""

from __future__ import annotations

import contextlib
import copy
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job
from omegaconf import DictConfig, open_dict, read_write

from launchers.dispatch import ComposedJob, DispatchingLauncher

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


class LocalJobs(DispatchingLauncher):
    """In-process launcher: Hydra's basic one, except that a failed or exiting job never ends the jobs after it."""

    def run_jobs(self, jobs: Sequence[ComposedJob]) -> list[JobReturn]:
        assert self.config is not None
        returns = []
        with terminate_by_exception():
            for job in jobs:
                returns.append(self._run(job))
                configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returns

    def _run(self, job: ComposedJob) -> JobReturn:
        assert self.hydra_context is not None
        assert self.task_function is not None
        try:
            return run_job(
                hydra_context=self.hydra_context,
                task_function=self.task_function,
                config=job.config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
        except SystemExit as error:
            if error.code in (TERMINATED, INTERRUPTED):
                raise
            # The task called sys.exit: that is a failure of this job, not of the sweep.
            failure = RuntimeError(f"The task left with sys.exit({error.code!r}).")
            return failed(job, failure)


def failed(job: ComposedJob, error: BaseException) -> JobReturn:
    """The result Hydra expects of a job that ended with `error`."""
    return finished(job, JobStatus.FAILED, error)


def finished(job: ComposedJob, status: JobStatus, value: Any) -> JobReturn:
    """A `JobReturn` with the parts of it that Hydra's sweepers, callbacks and tests read."""
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(job.config)
        hydra_config = copy.deepcopy(HydraConfig.instance().cfg)
    finally:
        HydraConfig.instance().cfg = before
    task = copy.deepcopy(job.config)
    with read_write(task), open_dict(task):
        del task["hydra"]
    return JobReturn(
        overrides=list(job.config.hydra.overrides.task),
        cfg=task,
        hydra_cfg=cast(DictConfig, hydra_config),
        working_dir=str(job.folder),
        task_name=job.config.hydra.job.name,
        status=status,
        _return_value=value,
    )


@contextlib.contextmanager
def terminate_by_exception() -> Iterator[None]:
    """Make SIGTERM raise SystemExit(143), so that `finally` blocks run; no effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(signum: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

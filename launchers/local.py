"""Runs jobs one after another in this process; it is also what runs a job on a rented machine, below the supervisor."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job
from omegaconf import DictConfig, open_dict, read_write

from launchers.dispatch import ComposedJob, DispatchingLauncher, JobNotFinished
from launchers.search.output import CONSOLE_LOG, Warnings, kept_output
from launchers.search.reports import ReportsFile
from launchers.search.trials import TrialState

if TYPE_CHECKING:
    from launchers.search.jobs import SweepJobs

log = logging.getLogger("launchers")
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


class LocalJobs(DispatchingLauncher):
    """In-process launcher: Hydra's basic one, except that a failed job never ends the jobs after it, and Ctrl-C, SIGTERM, or a
    job that leaves with their exit codes, does."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._states: dict[int, str] = {}
        """What became of each job of the sweep, by its number; a sweeper may launch several batches."""

    def run_jobs(self, jobs: Sequence[ComposedJob]) -> list[JobReturn]:
        assert self.config is not None
        self._states |= {job.number: "not started" for job in jobs}
        several = len(self._states) > 1
        returns = []
        with terminate_by_exception():
            try:
                for job in jobs:
                    returns.append(self._run_next(job, several))
            except (KeyboardInterrupt, SystemExit) as stop:  # in a job, or between two
                if not several:
                    raise
                configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
                self._report_stop()
                raise SystemExit(stop.code if isinstance(stop, SystemExit) else INTERRUPTED) from None
        return returns

    def _run_next(self, job: ComposedJob, several: bool) -> JobReturn:
        assert self.config is not None
        self._states[job.number] = "interrupted"
        try:
            result = self._run(job)
        except OSError as error:  # its folder cannot be made: the other jobs have their own
            if not several:
                raise
            result = failed(job, _unwritable(error))
        failure = result.status is JobStatus.FAILED
        self._states[job.number] = "failed" if failure else "done"
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if failure and several:
            log.error("job %d failed: %s", job.number, result._return_value)
        return result

    def run_sweep(self, jobs: SweepJobs) -> None:
        """One job after another, each watched: it is asked to save and end when the sweep decides so."""
        assert self.config is not None
        with terminate_by_exception():
            try:
                while (job := jobs.next()) is not None:
                    self._run_watched(jobs, job)
            except (KeyboardInterrupt, SystemExit) as stop:  # in a job, or between two
                configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
                jobs.stopped("stopped by the user")
                self._report_sweep_stop(jobs)
                raise SystemExit(stop.code if isinstance(stop, SystemExit) else INTERRUPTED) from None

    def _run_watched(self, jobs: SweepJobs, job: ComposedJob) -> None:
        """
        Raises:
            KeyboardInterrupt, SystemExit: the user stops the sweep.
        """
        assert self.config is not None
        watch = Watch(jobs, job)
        warned = Warnings(jobs.say, job.number)
        try:
            with kept_output(job.folder):
                result = watch.over(partial(self._run, around=warned.listening))
        except OSError as error:  # its folder or its log cannot be written: the other jobs have their own
            result = failed(job, _unwritable(error))
        except (KeyboardInterrupt, SystemExit):
            if watch.why is None:
                raise
            configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
            state = jobs.ended(job, TrialState.stopped, note=watch.why)
            jobs.returns[job.number] = finished(job, JobStatus.COMPLETED, jobs.value_of(job))
            if state is TrialState.stopped:
                log.info("job %d saved and ended: %s.", job.number, watch.why)
            return
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if result.status is JobStatus.FAILED:
            log.error("job %d failed: %s (%s)", job.number, result._return_value, job.folder / CONSOLE_LOG)
            jobs.ended(job, TrialState.failed, note=str(result._return_value))
        else:
            jobs.ended(job, TrialState.finished, result.return_value)
        jobs.returns[job.number] = result

    def _report_sweep_stop(self, jobs: SweepJobs) -> None:
        assert self.config is not None
        words = {"finished": "done", "stopped": "interrupted", "waiting": "not started"}
        states: dict[str, list[str]] = {}
        for trial in jobs.sweep.all():
            states.setdefault(words.get(trial.state.value, trial.state.value), []).append(str(trial.number))
        order = sorted(states, key=[*words.values()].index if set(states) <= set(words.values()) else str)
        log.info("Sweep stopped. Jobs: %s.", "; ".join(f"{state} {', '.join(states[state])}" for state in order))
        log.info(
            "Continue (jobs that are done are not run again):\n  %s", command_again(str(self.config.hydra.sweep.dir))
        )

    def _report_stop(self) -> None:
        """Say which jobs are done, and the command that goes on from there."""
        assert self.config is not None
        log.info("Sweep stopped. Jobs: %s.", "; ".join(self._by_state()))
        folder = str(self.config.hydra.sweep.dir)
        if str(self.config.hydra.sweeper._target_).endswith(".BasicSweeper"):
            log.info("Continue (jobs that are done are not run again):\n  %s", command_again(folder))
        else:
            log.info("This sweeper chooses anew in each run, so it cannot continue: start it again in a new folder.")

    def _by_state(self) -> Iterator[str]:
        for state in ("done", "failed", "interrupted", "not started"):
            numbers = [str(number) for number, its_state in self._states.items() if its_state == state]
            if numbers:
                yield f"{state} {', '.join(numbers)}"

    def _run(
        self, job: ComposedJob, around: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    ) -> JobReturn:
        """`around`: entered when Hydra has set up the job."""
        assert self.hydra_context is not None
        task_function = self.task_function
        assert task_function is not None

        @functools.wraps(task_function)
        def task(config: DictConfig) -> Any:
            with around():
                return task_function(config)

        try:
            return run_job(
                hydra_context=self.hydra_context,
                task_function=task,
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


class Watch:
    """One job that runs in this thread: its reports are read beside it, and SIGTERM asks it to save and end.

    The signal is ours only while the job is in hand: one that comes a moment late must not end what follows.
    """

    EVERY_S = 0.2

    def __init__(self, jobs: SweepJobs, job: ComposedJob) -> None:
        self.why: str | None = None
        """Why the job was asked to end, if this sweep asked it."""
        self._jobs, self._job = jobs, job
        self._over = threading.Event()

    def over(self, run: Callable[[ComposedJob], JobReturn]) -> JobReturn:
        """Run the job; raises what `run` raises, a stop too."""
        thread = threading.Thread(target=self._watch, name=f"watch-{self._job.number}", daemon=True)
        reports = self._reports = ReportsFile(self._job.folder)
        reports.new()  # of an earlier start: the sweep has them
        thread.start()
        try:
            return run(self._job)
        finally:
            self._leave(thread)

    def _leave(self, thread: threading.Thread) -> None:
        before = signal.getsignal(signal.SIGTERM)
        main = threading.current_thread() is threading.main_thread()
        if main:
            signal.signal(signal.SIGTERM, self._late)
        self._over.set()
        thread.join()
        self._read()
        if main:
            signal.signal(signal.SIGTERM, before)

    def _late(self, signum: int, frame: FrameType | None) -> None:
        """A stop that arrives when the job has ended: nothing to do where the sweep sent it, else the user's."""
        if self.why is None:
            raise SystemExit(TERMINATED)

    def _watch(self) -> None:
        while not self._over.wait(self.EVERY_S):
            why = self._read() or self._jobs.why_stop()
            if why and self.why is None and not self._over.is_set():
                self.why = why
                os.kill(os.getpid(), signal.SIGTERM)

    def _read(self) -> str | None:
        ends = False
        for step, value in self._reports.new():
            ends = self._jobs.report(self._job, step, value) or ends
        return "pruned" if ends else None


def command_again(folder: str) -> str:
    """The command of this process, to be run once more with the same output folder."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    else:
        start = ["python", sys.argv[0]] if program.suffix == ".py" else [program.name]
    kept = [a for a in sys.argv[1:] if not a.startswith(("hydra.sweep.dir=", "hydra.mode="))]
    return shlex.join(
        [*start, *(["-m"] if not {"-m", "--multirun"} & set(kept) else []), *kept, f"hydra.sweep.dir={folder}"]
    )


def failed(job: ComposedJob, error: BaseException) -> JobReturn:
    """The result Hydra expects of a job that ended with `error`."""
    return finished(job, JobStatus.FAILED, error)


def _unwritable(error: OSError) -> JobNotFinished:
    """What became of a job whose folder or log could not be made; what its own code raises is not seen here."""
    return JobNotFinished(f"The job's files cannot be written: {error}")


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

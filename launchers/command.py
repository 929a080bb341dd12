"""The command line of a job on any machine: the app's own entry point, with its output folder set."""

from __future__ import annotations

from pathlib import PurePosixPath

from launchers.job import JobSpec
from launchers.snapshot import CARRIED, SOURCE, SUPPORT

RETURN_VALUE = "+hydra.callbacks.launchers_return_value._target_=launchers.callbacks.WriteReturnValue"
"""Makes any Hydra app write its task's return value to a file."""


def arguments_of(job: JobSpec, output: PurePosixPath) -> list[str]:
    """Arguments of the Python interpreter."""
    is_script = job.entry_point.endswith(".py")
    return [
        "-u", *([] if is_script else ["-m"]), job.entry_point,
        *job.overrides,
        # Not MULTIRUN: the sweeper's settings in the job's config must not start a sweep on the machine.
        "hydra.mode=RUN",
        f"hydra.run.dir={output}",
        f"hydra.sweep.dir={output.parent}",
        f"hydra.sweep.subdir={output.name}",
        f"hydra.job.num={job.number}",
        f"hydra.job.id='{job.number}'",
        RETURN_VALUE,
    ]  # fmt: skip


def environment_of(tree: PurePosixPath) -> dict[str, str]:
    """Environment variables that describe the working tree of a job."""
    return {
        "PYTHONPATH": str(tree / SUPPORT), "PYTHONUNBUFFERED": "1",
        "SOURCE_PROVENANCE": str(tree / SOURCE), "CARRIED_DATA": str(tree / CARRIED),
    }  # fmt: skip

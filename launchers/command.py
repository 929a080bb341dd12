"""What any machine is asked to run for a job: the app's own entry point, in place, with its output folder given."""

from __future__ import annotations

from pathlib import PurePosixPath

from launchers.job import JobSpec
from launchers.snapshot import CARRIED, SOURCE, SUPPORT

RETURN_VALUE = "+hydra.callbacks.launchers_return_value._target_=launchers.callbacks.WriteReturnValue"
"""Makes any Hydra app write down what its task returned."""


def arguments_of(job: JobSpec, output: PurePosixPath) -> list[str]:
    """Everything after the name of the Python."""
    is_script = job.entry_point.endswith(".py")
    return [
        "-u", *([] if is_script else ["-m"]), job.entry_point,
        *job.overrides,
        # Not MULTIRUN: a sweeper's own settings, which are part of the job's config, must not start a sweep there.
        "hydra.mode=RUN",
        f"hydra.run.dir={output}",
        f"hydra.sweep.dir={output.parent}",
        f"hydra.sweep.subdir={output.name}",
        f"hydra.job.num={job.number}",
        f"hydra.job.id='{job.number}'",
        RETURN_VALUE,
    ]  # fmt: skip


def environment_of(tree: PurePosixPath) -> dict[str, str]:
    """What a job needs to know of the working tree that it runs in."""
    return {
        "PYTHONPATH": str(tree / SUPPORT), "PYTHONUNBUFFERED": "1",
        "SOURCE_PROVENANCE": str(tree / SOURCE), "CARRIED_DATA": str(tree / CARRIED),
    }  # fmt: skip

"""The logistics: takes any Hydra job to a machine, rented or local, and downloads its results.

It must not know what a job computes: a job is a folder, a command and files of text, and everything else
(which files are checkpoints, which number is the result) comes from the launcher's config.
Importing this package is cheap: the Python API is imported at its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from launchers.api import App, JobResult, launch, plan
    from launchers.errors import LaunchError, MendInput, StillBilled
    from launchers.job import JobState
    from launchers.planning import PlannedJob

__all__ = ["App", "JobResult", "JobState", "LaunchError", "MendInput", "PlannedJob", "StillBilled", "launch", "plan"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from launchers import api, errors

    return getattr(errors if hasattr(errors, name) else api, name)

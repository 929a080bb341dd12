"""A Hydra callback that hands a task's return value to the process above it; a supervised job is started with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

RETURN_VALUE_VARIABLE = "LAUNCHERS_RETURN_VALUE"
"""Names the file that the value is written to, as JSON."""


class WriteReturnValue(Callback):
    """Writes what the task function returned; what JSON can't hold is written as its `repr`."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        path = os.environ.get(RETURN_VALUE_VARIABLE)
        if not path or job_return.status is not JobStatus.COMPLETED:
            return
        try:
            text = json.dumps({"value": job_return.return_value})
        except TypeError:
            text = json.dumps({"value": repr(job_return.return_value)})
        partial = Path(path + ".partial")
        partial.write_text(text)
        partial.replace(path)

"""What the program in Modal's container does with a job's folder, in this process: a real job, a Volume that counts commits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from launchers.providers.modal import worker

LATE_S = 1.0


class Volume:
    """Remembers what lay in a folder at each commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commits: list[set[str]] = []
        self.committed = threading.Event()

    def commit(self) -> None:
        self.commits.append({path.name for path in self.folder.iterdir()})
        self.committed.set()


class LookedTooEarly(threading.Event):
    """Who waits for it looked just before it happened, and acts on that once the last commit has been made."""

    def __init__(self, last: Volume) -> None:
        super().__init__()
        self.last = last
        self.waiters: list[threading.Thread] = []

    def wait(self, timeout: float | None = None) -> bool:
        super().wait()
        self.waiters.append(threading.current_thread())
        if len(self.waiters) > 1:
            return True
        # It may as well wait for us, and then it does not come before we go on: that is as it should be.
        self.last.committed.wait(LATE_S)
        return False


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Any]:
    """A container's part of a job that prints a line and leaves a file."""
    job = "from pathlib import Path; import sys; Path(sys.argv[1]).write_text('done'); print('over')"
    payload = {
        "job": "job-0", "application": "ap-1", "root": str(tmp_path), "directory": ".", "python": sys.executable, "paths": {},
        "arguments": ["-c", job, str(tmp_path / "jobs/job-0/output/result")], "grace": 5.0, "commit_every": 0.0,
        "max_seconds": 60.0, "cap": worker.MAX_HOURS, "slice_seconds": 60.0, "variables": {},
    }  # fmt: skip
    outputs, cache = Volume(tmp_path / "jobs/job-0"), Volume(tmp_path)
    # The worker imports the programs of a rented machine by names that mean something else elsewhere: `files`, `setup`.
    with mock.patch.object(sys, "path", [*sys.path]), mock.patch.dict(sys.modules):
        yield worker._Attempt(payload, [outputs, cache], "fc-1")


def test_a_commit_that_is_due_as_the_job_ends_brings_back_nothing_that_the_last_one_removed(attempt: Any):
    attempt.ended = LookedTooEarly(attempt.cache)
    assert attempt.run()["exit_code"] == 0
    for thread in attempt.ended.waiters:
        thread.join()
    assert attempt.ended.waiters
    assert {"output", "manifest.json", "status.json"} <= attempt.outputs.commits[-1]
    assert not {"held", "digests.json", "heartbeat"} & attempt.outputs.commits[-1]
    assert not (attempt.folder / "held").exists()

"""Whatever goes wrong, also two or three things at a time: launches on machines that pause, and without machines, keep their promises.

The promises: every machine is confirmed gone or named as still billed, every checkpoint that was here stays, no job that has
ended runs again, and no machine outlives its job's caps by more than one poll and the time to save and download.
"""

from __future__ import annotations

import pytest

from tests.launchers.schedules.trials import COUNT, say, try_schedules


def test_launches_that_pause_or_have_no_machines_keep_their_promises(capfd: pytest.CaptureFixture[str]):
    count = COUNT * 2 // 5
    ends = try_schedules(("pausing", "serverless"), count)
    assert sum(ends.values()) >= count
    with capfd.disabled():
        say(f"{count} schedules of faults on machines that pause and without machines; jobs ended as {dict(ends)}")

"""Whatever goes wrong, also two or three things at a time: launches on machines keep their promises.

The promises: every machine is confirmed gone or named as still billed, every checkpoint that was here stays, no job that has
ended runs again, and no machine outlives its job's caps by more than one poll and the time to save and download.
"""

from __future__ import annotations

import pytest

from tests.launchers.schedules.trials import COUNT, say, try_schedules


def test_launches_on_machines_keep_their_promises(capfd: pytest.CaptureFixture[str]):
    count = COUNT * 2 // 5
    ends = try_schedules(("machines",), count)
    assert sum(ends.values()) >= count
    with capfd.disabled():
        say(f"{count} schedules of faults on machines; jobs ended as {dict(ends)}")

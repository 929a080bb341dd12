"""Whatever goes wrong, also two or three things at a time: launches that choose among two markets keep their promises.

The promises: every machine is confirmed gone or named as still billed, every checkpoint that was here stays, no job that has
ended runs again, and no machine outlives its job's caps by more than one poll and the time to save and download.
"""

from __future__ import annotations

import pytest

from tests.launchers.schedules.trials import COUNT, say, try_schedules


def test_launches_that_choose_among_markets_keep_their_promises(capfd: pytest.CaptureFixture[str]):
    count = COUNT // 5
    ends = try_schedules(("anywhere",), count)
    assert sum(ends.values()) >= count
    with capfd.disabled():
        say(f"{count} schedules of faults on two markets; jobs ended as {dict(ends)}")

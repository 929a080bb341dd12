"""Schedules of faults, drawn by hypothesis, each run as a whole launch in virtual time."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from launchers.testing.clock import VirtualClock
from launchers.testing.faults import CallFault, TimedFault
from launchers.testing.jobs import Script
from launchers.testing.launch import FakeLaunch, Schedule

COUNT = int(os.environ.get("SCHEDULES", "5200"))
"""Of all files together; more of them, and other ones each time, with SCHEDULES=50000."""
IS_DRAWN_ANEW = "SCHEDULES" in os.environ

PROVIDER_FAULTS = {
    "offers": ("retry",),
    "create": ("retry", "lost", "not done", "taken", "refused", "never boots", "dearer"),
    "status": ("retry", "refused"),
    "destroy": ("retry", "lost", "ignored", "refused"),
    "list": ("retry", "refused"),
    "balance": ("retry",),
}
MACHINE_FAULTS = {
    "probe": ("unreachable", "bad"),
    "lease": ("unreachable",),
    "upload": ("unreachable", "lost", "slow"),
    "prepare": ("unreachable", "setup", "slow"),
    "restore": ("unreachable", "lost"),
    "start": ("unreachable", "lost", "bad"),
    "job_status": ("unreachable", "slow", "bad", "supervisor dies"),
    "stop": ("unreachable", "lost"),
    "manifest": ("unreachable", "bad", "slow"),
    "read": ("unreachable", "damaged", "breaks"),
    "follow": ("unreachable", "breaks", "bad"),
}
RESUME_FAULTS = {"resume": ("retry", "lost", "taken")}
OURS = ("disk full", "ledger refuses")
STOPS = ("interrupt", "terminate", "cancel", "client killed")
LOSSES = ("preempted", "host lost", "silent")


def schedules(markets: tuple[str, ...]) -> st.SearchStrategy[Schedule]:
    """One to three faults of any side, mostly two, on launches that differ in size and caps."""
    verbs = PROVIDER_FAULTS | MACHINE_FAULTS | (RESUME_FAULTS if "pausing" in markets else {})
    kinds = [(verb, kind) for verb, kinds in verbs.items() for kind in kinds]
    times, first = st.sampled_from((1, 1, 2, 3, 50)), st.sampled_from((0, 0, 0, 1, 2, 4))
    sides = [
        [(verb, kind) for verb, kind in kinds if (verb in MACHINE_FAULTS) is on_machine] for on_machine in (False, True)
    ]
    call = st.builds(
        lambda what, first, times: CallFault(*what, first, times),
        st.sampled_from(sides[0]) | st.sampled_from(sides[1]), first, times,
    )  # fmt: skip
    happens = ("provider down", *OURS, *STOPS, *(LOSSES if markets != ("serverless",) else ()))
    timed = st.builds(
        TimedFault, st.sampled_from(happens), st.integers(0, 44).map(lambda n: n / 2), st.sampled_from((2.0, 8.0, 40.0))
    )
    fault = call | call | timed
    scripts = (Script(), Script(), Script(), Script(crashes_at=3), Script(hangs_at=3), Script(steps=60))
    caps = ({}, {}, {"max_cost": 0.002}, {"max_total_cost": 0.004}, {"max_restarts": 0}, {"max_hours": 30 / 3600})

    def build(
        market: str, size: tuple[int, int], faults: list[CallFault | TimedFault], script: Script, cap: dict[str, float]
    ) -> Schedule:
        calls = tuple(fault for fault in faults if isinstance(fault, CallFault))
        at_times = tuple(fault for fault in faults if isinstance(fault, TimedFault))
        return Schedule(market, *size, calls, at_times, script, cap)

    sizes = st.sampled_from(((1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (2, 2), (3, 2)))
    return st.builds(
        build, st.sampled_from(markets), sizes, st.lists(fault, min_size=1, max_size=3), st.sampled_from(scripts),
        st.sampled_from(caps),
    )  # fmt: skip


@contextmanager
def folder_for_launches() -> Iterator[Path]:
    """In memory, where the system has such a place: what is tried is the order of things and not the disk."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def try_schedule(schedule: Schedule, folder: Path) -> FakeLaunch:
    """A launch under a schedule, then an `attach` if it left anything; fails where a promise is broken."""
    with VirtualClock() as clock:
        launch = FakeLaunch(folder, schedule, clock)
        try:
            launch.run()
            problems = launch.broken_promises()
            if launch.is_open():
                problems += launch.attach().broken_promises_of_attach()
            problems += launch.broken_promise_of_ours()
            if problems:
                said = "\n".join(launch.said)
                pytest.fail(
                    "\n".join(("", *problems, f"struck: {launch.faults.hit}", f"{schedule}", said)), pytrace=False
                )
        finally:
            launch.close()
    return launch


def try_schedules(markets: tuple[str, ...], count: int) -> Counter[str]:
    """That many schedules; how the launches ended."""
    ends: Counter[str] = Counter()
    numbers = itertools.count()

    with folder_for_launches() as folder, pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - {"PATH", "HOME"}:
            patch.delenv(name)  # what is written is searched for the values of all of them

        @settings(
            max_examples=count, deadline=None, database=None, derandomize=not IS_DRAWN_ANEW,
            suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.generate, Phase.shrink),
        )  # fmt: skip
        @given(schedules(markets))
        def every_schedule(schedule: Schedule) -> None:
            launch = try_schedule(schedule, folder / str(next(numbers)))
            ends.update(str(state) for state in launch.first_ends)

        run: Callable[[], None] = every_schedule
        run()
    return ends


def say(text: str) -> None:
    """On the terminal also of a worker of pytest-xdist, whose standard output nobody sees."""
    print(text, file=sys.stderr)

"""Schedules of faults, drawn by hypothesis, each run as a whole launch in virtual time."""

from __future__ import annotations

import dataclasses
import gc
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

COUNT = int(os.environ.get("SCHEDULES", "5000"))
"""Of all files together. The same ones each time, so that a commit has one verdict; `HUNT=1 SCHEDULES=50000` tries others."""
IS_DRAWN_ANEW = "HUNT" in os.environ

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
HANGING_S = 120
"""`provider.max_hours` of jobs that hang: nothing new happens to them after that."""


def schedules(markets: tuple[str, ...]) -> st.SearchStrategy[Schedule]:
    """One to three faults of any side, mostly two, on launches that differ in size and caps."""
    verbs = PROVIDER_FAULTS | MACHINE_FAULTS | (RESUME_FAULTS if {"pausing", "anywhere"} & set(markets) else {})
    # Few draws from long tables: hypothesis takes as long for one draw as a launch for ten calls.
    when = [(first, times) for first in (0, 0, 0, 1, 2, 4) for times in (1, 1, 2, 3, 50)]
    calls = [
        [CallFault(verb, kind, *each) for verb in side for kind in verbs[verb] for each in when]
        for side in (sorted(set(verbs) - set(MACHINE_FAULTS)), MACHINE_FAULTS)
    ]
    happens = ("provider down", *OURS, *STOPS, *(LOSSES if markets != ("serverless",) else ()))
    timed = [TimedFault(kind, n / 2, lasts) for n in range(45) for kind in happens for lasts in (2.0, 8.0, 40.0)]
    fault = st.sampled_from(calls[0]) | st.sampled_from(calls[1]) | st.sampled_from(timed)
    caps: tuple[dict[str, float], ...] = (
        {}, {}, {"max_cost": 0.002}, {"max_total_cost": 0.004}, {"max_restarts": 0}, {"max_hours": 30 / 3600},
    )  # fmt: skip
    scripts = (*[Script()] * 6, Script(crashes_at=3), Script(hangs_at=3), Script(steps=40))
    sizes = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (2, 2), (3, 2))
    launches = list(itertools.product(markets, sizes, scripts, caps))

    def build(
        launch: tuple[str, tuple[int, int], Script, dict[str, float]], faults: list[CallFault | TimedFault]
    ) -> Schedule:
        market, size, script, cap = launch
        if script.hangs_at is not None:
            cap = {"max_hours": HANGING_S / 3600} | cap
        at_calls = tuple(fault for fault in faults if isinstance(fault, CallFault))
        at_times = tuple(fault for fault in faults if isinstance(fault, TimedFault))
        return Schedule(market, *size, at_calls, at_times, script, cap)

    return st.builds(build, st.sampled_from(launches), st.lists(fault, min_size=1, max_size=3))


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
                    "\n".join(("", *problems, f"struck: {launch.faults.hit}", said, "", regression_test(schedule))),
                    pytrace=False,
                )
        finally:
            launch.close()
    return launch


def regression_test(schedule: Schedule) -> str:
    """Source of a test that fails as this schedule does: to be put, with a better name, beside those of the kind."""
    changed = ", ".join(
        f"{field.name}={getattr(schedule, field.name)!r}"
        for field in dataclasses.fields(schedule)
        if getattr(schedule, field.name) != getattr(Schedule(), field.name)
    )
    return f"def test_NAME_ITS_KIND(tmp_path: Path):\n    try_schedule(Schedule({changed}), tmp_path / 'launch')\n"


@contextmanager
def few_collections() -> Iterator[None]:
    """Rarer garbage collections: each looks at all that pytest and hypothesis hold, and finds nothing."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def try_schedules(markets: tuple[str, ...], count: int) -> Counter[str]:
    """That many schedules; how the launches ended."""
    ends: Counter[str] = Counter()
    numbers = itertools.count()

    with folder_for_launches() as folder, few_collections(), pytest.MonkeyPatch.context() as patch:
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

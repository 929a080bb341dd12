"""When a machine ends itself: a table of its lease, its jobs and the last word from a client."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

import launchers.remote

BEGAN = 1_000_000.0
LEASE_S, IDLE_S = 3600.0, 1800.0
OVER = BEGAN + LEASE_S


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """As it runs on a machine: a script beside the others."""
    monkeypatch.syspath_prepend(str(Path(launchers.remote.__file__).parent))
    module = importlib.import_module("watchdog")
    monkeypatch.setattr(
        module, "stop_job", lambda root, job, reason: Path(root, "stopped").write_text(f"{job}: {reason}")
    )
    return module


@pytest.mark.parametrize(
    ("running", "contact", "now", "ends"),
    [
        # within its lease
        (True, 0, BEGAN + 10, False),
        (True, 0, OVER - 1, False),
        (False, 0, BEGAN + IDLE_S - 1, False),
        (False, 0, BEGAN + IDLE_S + 1, True),
        (False, BEGAN + 1000, BEGAN + 1000 + IDLE_S - 1, False),
        (False, BEGAN + 1000, BEGAN + 1000 + IDLE_S + 1, True),
        # its lease is over: a running job is asked to save, and ends first
        (True, 0, OVER, False),
        (True, 0, OVER + 2 * IDLE_S, False),
        (False, 0, OVER, True),
        # a client that fetches is waited for, though not for ever
        (False, OVER - 59, OVER, False),
        (False, OVER - 61, OVER, True),
        (False, OVER + IDLE_S - 2, OVER + IDLE_S - 1, False),
        (False, OVER + IDLE_S - 1, OVER + IDLE_S, True),
    ],
)
def test_a_machine_ends_when_nobody_needs_it(
    watchdog: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    running: bool,
    contact: float,
    now: float,
    ends: bool,
):
    if contact:
        (tmp_path / "contact").touch()
        os.utime(tmp_path / "contact", (contact, contact))
    monkeypatch.setattr(watchdog, "all_jobs", lambda root: ["j"])
    monkeypatch.setattr(watchdog, "status_of", lambda root, job: {"state": "running" if running else "ended"})
    terms = {"ends": OVER, "idle": IDLE_S, "destruct": None}
    assert (watchdog.verdict(str(tmp_path), terms, BEGAN, now) is not None) is ends
    assert (tmp_path / "stopped").exists() is (running and now >= OVER)


def test_with_little_patience_a_silent_client_is_not_waited_for_a_minute(
    watchdog: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "contact").touch()
    os.utime(tmp_path / "contact", (OVER - 6, OVER - 6))
    assert watchdog.verdict(str(tmp_path), {"ends": OVER, "idle": 5.0}, BEGAN, OVER) == "the lease is over"
    assert watchdog.verdict(str(tmp_path), {"ends": OVER, "idle": 7.0}, BEGAN, OVER) is None

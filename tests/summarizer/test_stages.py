"""Stages of a job: their seconds add up to the job's, over restarts and kills."""

from __future__ import annotations

import os

import pytest

from summarizer import stages as module
from summarizer.stages import Stage, Stages, read_stages, stage_seconds


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    seconds = iter(range(100, 1000, 10))
    monkeypatch.setattr(module.time, "time", lambda: float(next(seconds)))
    monkeypatch.setattr(module, "_begun", {os.getpid()})


def test_a_stage_is_one_at_a_time_and_goes_back_to_the_one_it_came_from(tmp_path):
    stages = Stages(tmp_path)
    stages.begin()
    with stages.during(Stage.tokenizing):
        pass
    stages.enter(Stage.training)
    for _ in range(2):
        with stages.during(Stage.validation):
            pass
    stages.enter(Stage.ended)
    found = stage_seconds(read_stages(tmp_path))
    assert found == {"start": 20.0, "tokenizing": 10.0, "training": 30.0, "validation": 20.0}
    assert sum(found.values()) == 80.0


def test_a_start_after_a_kill_counts_neither_the_gap_nor_the_start_before(tmp_path):
    killed = Stages(tmp_path)
    killed.begin()
    killed.enter(Stage.training)
    with (tmp_path / module.FILE).open("a") as lines:
        lines.write('{"time": 1')
        lines.write("\n")
    again = Stages(tmp_path)
    again.begin()
    again.enter(Stage.test)
    again.enter(Stage.ended)
    assert stage_seconds(read_stages(tmp_path)) == {"start": 10.0, "test": 10.0}


def test_a_process_that_only_helps_writes_nothing(tmp_path):
    stages = Stages(None)
    stages.enter(Stage.training)
    assert stages.current is Stage.training
    assert read_stages(tmp_path) == []

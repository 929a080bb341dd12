"""The time that a training has left: from recent steps, once they say something; validations are counted apart from steps."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytorch_lightning.callbacks import Callback

from summarizer.training.progress import (
    ProgressBar,
    ProgressFile,
    ProgressLines,
    TrainingClock,
    left_text,
    tell_watchers,
)


class Training:
    """A clock, and time that passes by steps."""

    def __init__(self, first: int = 0) -> None:
        self.now = 0.0
        self.step = first
        self.clock = TrainingClock(lambda: self.now)
        self.clock.start(first)

    def steps(self, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            self.step += 1
            self.clock.step(self.step)

    def validate(self, seconds: float) -> None:
        self.clock.pause()
        self.now += seconds
        self.clock.resume(self.step)


def test_a_validation_does_not_spoil_the_time_that_is_left():
    training = Training()
    training.steps(100, 1.0)
    assert training.clock.left(400) == pytest.approx(300.0)
    training.validate(50.0)
    # 300 steps of a second each, and three more validations of 50 s
    assert training.clock.left(400) == pytest.approx(300.0 + 3 * 50.0)
    training.steps(299, 1.0)
    assert training.clock.left(400) == pytest.approx(1.0)


def test_a_resumed_training_counts_its_own_steps_only():
    training = Training(first=200)
    training.steps(10, 1.0)
    assert training.clock.left(400) == pytest.approx(190.0)


def test_the_first_steps_which_compile_say_nothing_of_the_rest():
    training = Training()
    training.steps(1, 40.0)
    assert training.clock.left(3000) is None
    training.steps(2, 0.1)
    training.steps(2, 0.1)
    assert training.clock.left(3000) is None
    training.steps(1, 0.1)
    assert training.clock.left(3000) == pytest.approx(299.4)


def test_the_rate_is_that_of_recent_steps():
    training = Training()
    training.steps(300, 1.0)
    training.steps(300, 0.1)
    assert training.clock.left(700) == pytest.approx(10.0)


def test_batches_of_one_step_count_once():
    training = Training()
    for step in range(1, 9):
        for _ in range(4):
            training.now += 0.25
            training.clock.step(step)
    assert training.clock.left(108) == pytest.approx(100.0, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (40.0, "40 s left"), (312.0, "5.2 min left"), (9000.0, "2.5 h left")]
)
def test_time_left_is_told_in_a_unit_that_fits(seconds: float | None, text: str):
    assert left_text(seconds) == text


def trainer(step: int) -> SimpleNamespace:
    return SimpleNamespace(global_step=step, is_global_zero=True, callback_metrics={}, sanity_checking=False)


def test_a_line_names_no_time_before_there_is_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("summarizer.training.progress.LINE_EVERY_SECONDS", 0.0)
    lines = ProgressLines(100)
    lines.on_train_start(trainer(0), None)
    for step in range(1, 10):
        lines.on_train_batch_end(trainer(step), None, None, None, step)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "step 1/100"
    assert said[-1] == "step 9/100  0 s left"


def test_the_file_of_progress_is_whole_and_holds_the_last_step(tmp_path: Path):
    file = tmp_path / "progress.json"
    callback = ProgressFile(file, 20)
    callback.on_train_start(trainer(0), None)
    callback.on_train_batch_end(trainer(1), None, None, None, 0)
    assert json.loads(file.read_text()) == {"step": 1, "steps": 20, "left_s": None}
    for step in range(2, 21):
        callback.on_train_batch_end(trainer(step), None, None, None, step)
    assert json.loads(file.read_text()) == {"step": 20, "steps": 20, "left_s": 0.0}
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_validation_tells_whoever_watches_how_many_summaries_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("summarizer.training.progress.LINE_EVERY_SECONDS", 0.0)
    file, lines, bar = ProgressFile(tmp_path / "progress.json", 20), ProgressLines(20), ProgressBar(20)
    now = trainer(5)
    now.callbacks, now.num_val_batches = [file, lines, bar, Callback()], [3]
    for watcher in (file, lines, bar):
        watcher.on_train_start(now, None)
        watcher.on_train_batch_end(trainer(6), None, None, None, 0)
        watcher.on_validation_start(now, None)
    for batch in range(3):
        bar.on_validation_batch_end(now, None, None, None, batch)
    try:
        tell_watchers(now)(400, 1000)
        assert "validation at step 5: 400/1,000 summaries" in capsys.readouterr().out
        said = json.loads((tmp_path / "progress.json").read_text())
        assert said == {"step": 6, "steps": 20, "left_s": None, "stage": "validation", "done": 400, "of": 1000}
        assert [(task.completed, task.total, task.fields["facts"]) for task in bar.bar.tasks[1:]] == [
            (400, 1000, "summaries")
        ]
    finally:
        bar.bar.stop()
    file.on_validation_end(now, None)
    assert json.loads((tmp_path / "progress.json").read_text()) == {"step": 6, "steps": 20, "left_s": None}

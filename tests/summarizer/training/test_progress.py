"""The time that a training has left: validations are counted apart from steps."""

from __future__ import annotations

from summarizer.training.progress import TrainingClock


def test_a_validation_does_not_spoil_the_time_that_is_left():
    now = [0.0]
    clock = TrainingClock(lambda: now[0])
    clock.start(0)
    now[0] = 100.0  # a second per step
    assert clock.left(100, 400) == 300.0
    clock.pause()
    now[0] += 50.0
    clock.resume(100)
    # 300 steps of a second each, and three more validations of 50 s
    assert clock.left(100, 400) == 300.0 + 3 * 50.0
    now[0] += 299.0
    assert clock.left(399, 400) == 1.0


def test_a_resumed_training_counts_its_own_steps_only():
    now = [0.0]
    clock = TrainingClock(lambda: now[0])
    clock.start(200)
    now[0] = 10.0
    assert clock.left(210, 400) == 190.0

"""A job that takes steps in virtual time; everything that it has written by now is computed from the time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

CHECKPOINT = "checkpoints/last.json"
RESULT = "metrics.json"
SAVE_S = 1.0
"""From a request to stop until the checkpoint is written."""


@dataclass(frozen=True)
class Script:
    """What a job does wherever it runs."""

    steps: int = 6
    step_s: float = 2.0
    checkpoint_every: int = 2
    crashes_at: int | None = None
    """The step at which it ends with exit code 1."""
    hangs_at: int | None = None
    """The step at which it neither goes on nor reacts to a request to stop."""


@dataclass
class FakeJob:
    """One run of a job on one machine."""

    script: Script
    started: float
    first: int
    """The step of the checkpoint that it continues from."""
    grace: float
    disk: dict[str, bytes] = field(default_factory=dict)
    """What lay in its folder when it started."""
    asked: float | None = None
    reason: str | None = None
    killed: float | None = None
    """When its machine or its supervisor ended under it."""

    def ask(self, now: float, reason: str) -> None:
        if self.asked is None and self.ended_at() > now:
            self.asked, self.reason = now, reason

    def kill(self, now: float) -> None:
        if self.killed is None and self.ended_at() > now:
            self.killed = now

    def _at(self, step: int) -> float:
        return self.started + (step - self.first) * self.script.step_s

    def natural_end(self) -> float:
        """When it ends if nobody stops it."""
        if self.script.hangs_at is not None and self.script.hangs_at > self.first:
            return float("inf")
        last = self.script.steps if self.script.crashes_at is None else min(self.script.crashes_at, self.script.steps)
        return self._at(max(last, self.first)) + 0.1

    def ended_at(self) -> float:
        end = self.natural_end()
        if self.asked is not None:
            hangs = self.script.hangs_at is not None and self._at(self.script.hangs_at) <= self.asked
            end = min(end, self.asked + (self.grace if hangs else SAVE_S))
        return end if self.killed is None else min(end, self.killed)

    def is_running(self, now: float) -> bool:
        return now < self.ended_at()

    def was_killed(self, now: float) -> bool:
        return self.killed is not None and now >= self.killed >= self.ended_at()

    def exit_code(self) -> int:
        """Of a job that has ended by itself, or as it was asked to."""
        if self.asked is not None and self.ended_at() < self.natural_end():
            return -9 if self.ended_at() - self.asked > SAVE_S else 0
        crashes = self.script.crashes_at is not None and self.script.crashes_at < self.script.steps
        return 1 if crashes else 0

    def step(self, now: float) -> int:
        passed = int((min(now, self.ended_at()) - self.started) / self.script.step_s)
        limits = [self.script.steps, self.script.crashes_at, self.script.hangs_at]
        limit = min(limit for limit in limits if limit is not None)
        return max(min(self.first + passed, limit), self.first)

    def files(self, now: float) -> dict[str, bytes]:
        """Its output folder."""
        step, files = self.step(now), dict(self.disk)
        over = not self.is_running(now) and not self.was_killed(now)
        saved = step if over and self.exit_code() == 0 else step - step % self.script.checkpoint_every
        if saved > checkpoint_step(files):
            files[CHECKPOINT] = json.dumps({"step": saved}).encode()
        if over and self.exit_code() == 0 and step == self.script.steps:
            files[RESULT] = json.dumps({"steps": step}).encode()
        return files

    def log(self, now: float) -> bytes:
        return b"".join(b"step %d\n" % step for step in range(self.first + 1, self.step(now) + 1))


def checkpoint_step(files: dict[str, bytes]) -> int:
    """The step of the checkpoint among the files of a job; 0 without one."""
    return int(json.loads(files[CHECKPOINT])["step"]) if CHECKPOINT in files else 0

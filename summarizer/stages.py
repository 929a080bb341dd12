"""Stages of a job and their seconds: what its time, and a rented card, went into.

A job is in one stage at a time. Each change is one line of logs/stages.jsonl, written as it happens, so that what samples a
card beside the job can be laid over it; the seconds per stage go into provenance.json.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil

from summarizer.metric_names import minutes


class Stage(StrEnum):
    start = "start"  # processes, imports, the model
    tokenizing = "tokenizing"  # the corpus and its tokenizer
    compiling = "compiling"  # until the first optimizer step has been taken, where layers are compiled
    training = "training"
    validation = "validation"
    test = "test"  # summaries and scores of the evaluated splits
    export = "export"  # predictions and the model folder
    ended = "ended"


FILE = "stages.jsonl"  # in the job's folder of logs
_begun: set[int] = set()  # this process's id, once a job has begun in it


class Stages:
    """Writes down the stage of a job. One process of a job does so at a time.

    Args:
        folder: where the file is; None writes nothing, in processes that do what another one reports.
        held: keep what is written down until `release`: a start that is refused leaves the file as it was.
    """

    def __init__(self, folder: Path | None, held: bool = False) -> None:
        self.file = folder / FILE if folder is not None else None
        self.current = Stage.start
        self._lines: list[str] | None = [] if held else None

    def begin(self) -> None:
        """Enter `start`: the first job of a process began with the process."""
        if self.file is not None and self.file.exists():
            self.enter(Stage.ended)  # of an earlier start, which may have been killed
        self.enter(Stage.start, None if os.getpid() in _begun else psutil.Process().create_time())
        _begun.add(os.getpid())

    def enter(self, stage: Stage, at: float | None = None) -> None:
        """Go into a stage, which ends the one before.

        Args:
            at: seconds since the epoch; None: now.
        """
        self.current = stage
        line = json.dumps({"time": round(time.time() if at is None else at, 3), "stage": stage}) + "\n"
        if self._lines is not None:
            self._lines.append(line)
        elif self.file is not None:
            with self.file.open("a") as lines:
                lines.write(line)

    def release(self) -> None:
        """Write what was held; from here on everything is written at once."""
        lines, self._lines = self._lines or [], None
        if self.file is not None and lines:
            with self.file.open("a") as file:
                file.writelines(lines)

    @contextmanager
    def during(self, stage: Stage) -> Iterator[None]:
        """The stage while inside, then again the one before."""
        before = self.current
        self.enter(stage)
        try:
            yield
        finally:
            self.enter(before)


def read_stages(folder: Path) -> list[tuple[float, Stage]]:
    """(seconds since the epoch, stage entered), in order; a half line of a kill is left out."""
    entered, file = [], folder / FILE
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            row: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError:
            continue
        entered.append((float(row["time"]), Stage(row["stage"])))
    return entered


def stage_seconds(entered: list[tuple[float, Stage]]) -> dict[str, float]:
    """Seconds per stage, over all its visits since the job's last start; a stage that was not entered is left out."""
    begin = max(
        (i for i, (_, stage) in enumerate(entered) if stage is Stage.ended and i + 1 < len(entered)), default=-1
    )
    seconds: dict[str, float] = {}
    for (time_in, stage), (time_out, _) in zip(entered[begin + 1 :], entered[begin + 2 :], strict=False):
        if stage is not Stage.ended:
            seconds[stage.value] = round(seconds.get(stage.value, 0.0) + time_out - time_in, 1)
    return seconds


def stage_minutes(folder: Path) -> dict[str, float]:
    """`minutes/<stage>` of the job's last start, until now."""
    entered = read_stages(folder)
    seconds = stage_seconds([*entered, (time.time(), Stage.ended)]) if entered else {}
    return {minutes(stage): amount / 60 for stage, amount in seconds.items()}

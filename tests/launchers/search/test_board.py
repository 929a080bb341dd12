"""The console of a sweep: a live table on a terminal, plain lines elsewhere, and the jobs' own output in their logs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launchers.search.board import rows_now, sheet_of, summary
from launchers.search.meter import Bill
from launchers.search.progress import Progress, progress_of
from launchers.search.settings import SweepSettings
from launchers.search.trials import Trial, TrialState
from tests.launchers.conftest import environment

SEARCH = ["-m", "hydra/sweeper=search", "hydra.sweep.dir=out", "hydra.sweeper.metric=loss"]
SETTINGS = SweepSettings(metric="accuracy", direction="maximize", max_cost=5.0)


def trial(number: int, state: TrialState, value: float | None = None, **more: object) -> Trial:
    params = {"+lr": f"0.{number}"}
    return Trial("out", number, number, str(number), "", "", params, f"out/{number}", state=state, value=value, **more)  # type: ignore[arg-type]


TRIALS = [
    trial(0, TrialState.finished, 0.5, cost=0.25, seconds=60.0),
    trial(1, TrialState.running, job="launch-1", reports=((100, 0.1), (200, 0.7))),
    trial(2, TrialState.running, job="launch-2"),
    trial(3, TrialState.failed),
    trial(4, TrialState.waiting),
    trial(5, TrialState.finished, 0.9, cost=0.25, seconds=120.0),
]
BILLS = {"launch-1": Bill(0.125, 1.5, True), "launch-2": Bill(0.0, 0.5, False)}


def shown_rows() -> list[dict[str, object]]:
    return rows_now(
        TRIALS, ["lr"], SETTINGS, BILLS, lambda trial: Progress(250, 1000, 90.0, 2.5) if trial.number == 1 else None
    )


def test_the_best_comes_first_then_what_runs_then_what_waits():
    assert [row["job"] for row in shown_rows()] == [5, 1, 0, 2, 3, 4]


def test_a_running_job_shows_where_it_is_what_it_costs_and_how_long_it_takes():
    row = next(row for row in shown_rows() if row["job"] == 1)
    del row["trial"]
    assert row == {
        "job": 1, "lr": 0.1, "state": "running", "step": "250/1000", "loss": 2.5, "value": 0.7, "$/h": 1.5, "$": 0.125, "left": "1.5 min"
    }  # fmt: skip
    assert next(row for row in shown_rows() if row["job"] == 2)["state"] == "starting"


def test_a_job_says_what_it_does_beside_its_steps(tmp_path: Path):
    file = tmp_path / "progress.json"
    file.write_text('{"step": 6, "steps": 20, "left_s": null, "stage": "validation", "done": 400, "of": 1000}')
    assert progress_of(tmp_path) == Progress(6, 20, stage="validation 40 %")
    [row] = rows_now(TRIALS[1:2], ["lr"], SETTINGS, {}, lambda trial: progress_of(tmp_path))
    assert row["state"] == "validation 40 %"


@pytest.mark.parametrize(
    "stage", [r'"\u001b[2Jvalidation"', "7", '"' + 30 * "a" + '"', "null", '"a", "done": 3, "of": 0']
)
def test_a_stage_that_makes_no_sense_shows_no_more_than_its_name(stage: str, tmp_path: Path):
    (tmp_path / "progress.json").write_text(f'{{"step": 6, "stage": {stage}}}')
    found = progress_of(tmp_path)
    assert found is not None
    assert found.stage in (None, "a")


def test_what_runs_is_on_a_screen_too_small_for_all():
    sheet = sheet_of(shown_rows(), ["lr"], SETTINGS, most=3)
    assert [row["job"] for row in sheet.rows] == [5, 1, 2]


def test_columns_that_hold_nothing_are_left_out():
    sheet = sheet_of(rows_now(TRIALS[:1], ["lr"], SETTINGS, {}, lambda trial: None), ["lr"], SETTINGS, most=9)
    assert sheet.columns == ["job", "lr", "state", "value", "$"]


def test_the_summary_counts_jobs_dollars_and_time_and_estimates_the_rest():
    said = summary(TRIALS, SETTINGS, 0.625, 300.0, {0, 5})
    assert said == "3 of 6 jobs ended, 2 running; $0.62 of $5; 5 min, about 2.2 min left"


def test_the_rest_of_a_search_are_its_points_times_its_seeds():
    search = SweepSettings(sampler="random", n_trials=10, seeds=2)
    assert summary(TRIALS, search, 0.0, 30.0, set()).startswith("3 of 20 jobs ended, 2 running; 30 s")


NOISY = r"""
import logging, os, subprocess, sys, time
import hydra
@hydra.main(version_base=None, config_path="descent/conf", config_name="config")
def main(cfg):
    print("printed by the job", flush=True)
    subprocess.run(["echo", "printed by a child"])
    os.write(2, b"written to the descriptor\n")
    logging.getLogger("app").info("logged as information")
    logging.getLogger("app").warning("the rows are few")
    time.sleep(cfg.seconds_per_step)
    return cfg.curve.rate
main()
"""


def test_output_of_jobs_is_in_their_logs_and_their_warnings_are_said_once(project: Path, tmp_path: Path):
    (project / "noisy.py").write_text(NOISY)
    done = subprocess.run(
        [sys.executable, "noisy.py", *SEARCH, "curve.rate=0.1,0.2,0.3"],
        cwd=project, env=environment(LAUNCHERS_HOME=str(tmp_path / "home")), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    for number in range(3):
        log = (project / "out" / str(number) / "console.log").read_text()
        assert all(text in log for text in ("printed by the job", "printed by a child", "written to the descriptor"))
    assert not re.search("printed by|written to|as information", said)
    assert said.count("warning: the rows are few") == 1
    assert said.count("job 1: curve.rate=0.2") == 1


class Terminal:
    """`python -m descent` on a terminal of 100 columns, and all that it wrote there."""

    def __init__(self, project: Path, arguments: list[str], home: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "descent", *arguments], cwd=project, stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment(LAUNCHERS_HOME=str(home), TERM="xterm"), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._written = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                self._written += os.read(self._ours, 1 << 16)
            except OSError:  # all ends of the other side are closed
                return

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._written.decode(errors="replace"))

    def wait(self) -> int:
        code = self.process.wait(100)
        self._reader.join(10)
        return code


@pytest.fixture
def terminal(project: Path, tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*arguments: str) -> Terminal:
        started.append(Terminal(project, [*SEARCH, *arguments], tmp_path / "home"))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_a_terminal_shows_one_table_that_is_gone_at_the_end(terminal: Callable[..., Terminal]):
    shown = terminal("curve.rate=0.1,0.9", "steps=4", "seconds_per_step=0.4", "report_every=1")
    assert shown.wait() == 0
    assert re.search(r"job +curve.rate +state +step +loss +left", shown.text)
    assert re.search(r"0 +0.1 +running +\d/4 ", shown.text)
    assert "1 of 2 jobs ended, 1 running" in shown.text
    assert "starts at step" not in shown.text
    assert "2 jobs by loss (minimize), best first" in shown.text
    assert shown._written.rindex(b"\x1b[?25h") > shown._written.rindex(b"\x1b[?25l"), "the cursor is back"


def test_many_quick_jobs_do_not_wait_for_the_table(terminal: Callable[..., Terminal]):
    rates = ",".join(f"0.{number}" for number in range(10, 40))
    shown = terminal(f"curve.rate={rates}", "steps=1", "seconds_per_step=0.01", "report_every=1")
    assert shown.wait() == 0
    assert "30 jobs by loss" in shown.text


def test_ctrl_c_ends_the_table_with_what_is_done_and_how_to_go_on(terminal: Callable[..., Terminal]):
    shown = terminal("curve.rate=0.1,0.9", "steps=1000", "seconds_per_step=0.1", "report_every=1")
    while "running" not in shown.text:
        assert shown.process.poll() is None
    os.kill(shown.process.pid, signal.SIGINT)
    assert shown.wait() == 130
    assert "Sweep stopped. Jobs: interrupted 0; not started 1." in " ".join(shown.text.split())
    assert "Traceback" not in shown.text

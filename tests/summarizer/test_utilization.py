"""GPU utilization, sampled beside a job by a program that stands for nvidia-smi, and told in its reports."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from summarizer.evaluation.report import closing_report
from summarizer.run import Run
from summarizer.stages import Stage
from summarizer.utilization import sampling, utilization
from tests.summarizer.composition import composed

SAMPLER = """#!{python}
import sys, time
open({log!r}, "a").write(" ".join(sys.argv[1:]) + "\\n")
print("[Not Supported]", flush=True)
while True:
    print(" 40 ", flush=True)
    time.sleep(0.01)
"""


def test_a_card_is_sampled_while_a_job_runs_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, asked = tmp_path / "nvidia-smi", tmp_path / "asked"
    program.write_text(SAMPLER.format(python=sys.executable, log=str(asked)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    begun, older = time.time(), psutil.Process().children()
    with sampling(["GPU-1", "GPU-2"]) as samples:
        children = [child for child in psutil.Process().children() if child not in older]
        until = time.monotonic() + 60
        while len(samples) < 5 and time.monotonic() < until:
            time.sleep(0.01)
    assert asked.read_text().endswith("-i GPU-1,GPU-2\n")
    assert {percent for _, percent in samples} == {40.0}
    assert begun <= samples[0][0] <= samples[-1][0] <= time.time()
    assert len(children) == 1
    assert not psutil.wait_procs(children, timeout=60)[1]


def test_without_a_card_there_is_nothing_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with sampling() as samples:
        pass
    assert samples == []
    assert utilization(samples, [(0.0, Stage.start), (1.0, Stage.training)]) == {}


def test_means_are_of_all_visits_of_a_stage_and_the_whole_of_what_a_card_is_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entered = [
        (0.0, Stage.start), (10.0, Stage.training), (20.0, Stage.validation), (30.0, Stage.training), (40.0, Stage.export),
    ]  # fmt: skip
    samples = [(5.0, 1.0), (11.0, 90.0), (12.0, 80.0), (25.0, 30.0), (31.0, 100.0), (41.0, 0.0)]
    found = utilization(samples, entered)
    assert found == {
        "utilization/start": 1.0, "utilization/training": 90.0, "utilization/validation": 30.0, "utilization/export": 0.0,
        "utilization": 75.0,
    }  # fmt: skip
    closing_report(Run(tmp_path), composed(), found)
    assert "GPU utilization: 75 % (90 % in training, 30 % in validation)" in capsys.readouterr().out

"""One command on an emulated Modal runs, streams, resumes, brings home and leaves nothing. Real client, real container code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.launchers.modal_desk import ModalDesk

pytestmark = pytest.mark.slow

SLOW = ("steps=40", "seconds_per_step=0.1")
FINAL_LOSS = (7 * 0.5**40) ** 2


@pytest.fixture
def desk(project: Path, tmp_path: Path) -> Iterator[ModalDesk]:
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    with Modal(tmp_path / "modal") as modal:
        desk = ModalDesk(tmp_path, project, None, modal=modal)  # type: ignore[arg-type]
        yield desk
        for process in desk.processes:
            process.kill()
            process.wait()


def loss(desk: ModalDesk, number: int = 0) -> float:
    return json.loads((desk.output(number) / "metrics.json").read_text())["loss"]


def steps_in(text: str) -> list[int]:
    return [int(step) for step in re.findall(r"step (\d+) weight", text)]


def test_a_job_runs_in_a_container_and_leaves_no_application(desk: ModalDesk):
    done = desk.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(desk) == pytest.approx((7 * 0.5**5) ** 2)
    assert steps_in((desk.output() / "remote.log").read_text()) == [1, 2, 3, 4, 5]
    assert steps_in(done.stdout) == [1, 2, 3, 4, 5]
    assert desk.modal.live_apps() == []
    assert "finished" in done.stdout

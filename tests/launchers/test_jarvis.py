"""One command on an emulated JarvisLabs: its prices, its pauses, and its ways to lose a machine. Real SDK, ssh and processes."""

from __future__ import annotations

import json

import pytest

from tests.launchers.conftest import Desk

pytestmark = pytest.mark.slow

STEPS = 40
SLOW = (f"steps={STEPS}", "seconds_per_step=0.1", "provider.spot=true")


def loss(desk: Desk) -> float:
    return json.loads((desk.output() / "metrics.json").read_text())["loss"]


def log(desk: Desk) -> str:
    return (desk.output() / "remote.log").read_text()


def test_a_job_runs_on_the_cheapest_row_of_all_regions_and_nothing_is_billed_after(jarvis_desk: Desk):
    done = jarvis_desk.run("steps=5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert loss(jarvis_desk) == pytest.approx((7 * 0.5**5) ** 2)
    assert jarvis_desk.market.billed() == []
    (instance,) = jarvis_desk.market.history
    assert (instance.sold["region"], instance.sold["workload_type"]) == ("india-chennai-01", "container")
    assert instance.label.startswith("launchers-")
    assert len(instance.label) <= 40

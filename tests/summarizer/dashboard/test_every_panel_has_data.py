"""A real run that logged offline, uploaded, and the dashboard made by the command: no panel is empty."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from summarizer import metric_names
from tests.emulators.wandb_server import StoredRun, WandbServer
from tests.summarizer.dashboard.specification import columns, has, needs, panels_of
from tests.summarizer.jobs import TINY, job_folder, summarizer, write_corpus

pytest.importorskip("wandb_workspaces")
pytestmark = [pytest.mark.slow, pytest.mark.turns(2)]

GPU_ONLY = {metric_names.SHARE_OF_PEAK, metric_names.UTILIZATION}
JOB = [*TINY, "logger=wandb", "trainer.max_steps=4", "trainer.validations=2", "trainer.log_every_n_steps=1"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dashboard")


def test_an_offline_run_appears_after_its_upload_and_fills_every_panel(home: Path) -> None:
    folder = job_folder(summarizer(*JOB, *write_corpus(home / "corpus"), cwd=home))
    private = {f"WANDB_{name}_DIR": str(home / "wandb") for name in ("CONFIG", "CACHE", "DATA")}
    with WandbServer() as server:
        variables = {**server.environment, **private, "WANDB_ERROR_REPORTING": "false"}
        [offline] = (folder / "logs" / "wandb").glob("offline-run-*")
        sync = [sys.executable, "-m", "wandb", "sync", str(offline)]
        subprocess.run(sync, env=os.environ | variables, check=True, timeout=120, cwd=home, capture_output=True)
        [run] = server.runs.values()
        make = ("task=dashboard", f"runs={folder}")
        first = summarizer(*make, cwd=home, **variables).stdout
        saves = [view.saves for view in server.views.values()]
        second = summarizer(*make, cwd=home, **variables).stdout
    assert (first.count("Created: "), second.count("Unchanged: ")) == (2, 2), first + second
    assert [view.saves for view in server.views.values()] == saves == [1, 1]
    assert sorted(p.name for p in (home / "outputs").iterdir()) == ["summarizer"], "it leaves no folder"
    for view in server.views.values():
        check_every_panel(run, view.spec)
    report = next(view for view in server.views.values() if view.type == "runs")
    assert run.id in report.spec


def check_every_panel(run: StoredRun, spec: str) -> None:
    """Every name in a panel or pinned column is one that the run logged; the GPU's peak is not known on a processor."""
    panels = panels_of(spec)
    assert len(panels) > 20
    empty = {
        name
        for panel in panels
        for group in needs(panel)
        for name in group
        if not has(run, group) and not GPU_ONLY & set(group)
    }
    assert empty == set()
    assert [name for name in columns(spec) if not has(run, (name,))] == []

"""The summarizer's own job at an emulated Modal: the command of the user's guide, moved once, and home."""

from __future__ import annotations

import json
import sys

import pytest

from tests.emulators.modal import containers
from tests.emulators.modal.server import Modal
from tests.summarizer.jobs import ROOT, TINY, job_folder, summarizer, write_corpus

SHORT = [
    *(option for option in TINY if not option.startswith(("hardware=", "trainer.threads="))), "trainer.max_steps=20",
    "hardware=a100", "hardware.accelerator=cpu", "hardware.precision=32-true", "hardware.compile=false",
]  # fmt: skip


@pytest.mark.slow
def test_a_job_at_modal_comes_home_as_a_local_one_would(tmp_path):
    reason = containers.why_not()
    if reason:
        pytest.skip(reason)
    corpus = write_corpus(tmp_path / "corpus")
    results = tmp_path / "outputs"
    with Modal(tmp_path / "modal") as modal:
        done = summarizer(
            *SHORT, *corpus, "provider=modal", f"provider.python={sys.executable}", f"hydra.sweep.dir={results}",
            cwd=ROOT, LAUNCHERS_HOME=str(tmp_path / "home"), **modal.variables,
        )  # fmt: skip
        assert modal.live_apps() == []
        (function,) = modal.ask(lambda: list(modal.control.functions.values()))
        assert function.cards == ["A100-40GB:1"]
    folder = job_folder(done)
    assert folder == results / "0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"test/rougeL", "test/lead1/rougeL"} <= metrics.keys()
    assert (folder / "predictions.parquet").exists()
    again = summarizer("task=evaluate", f"run={folder}", *corpus, "hardware=cpu", cwd=tmp_path)
    assert json.loads((job_folder(again) / "metrics.json").read_text())["test/rougeL"] == metrics["test/rougeL"]

"""The summarizer's own job on an emulated rented machine: what the two halves promise together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from launchers.capsule import pack
from tests.emulators import cage
from tests.emulators.vast import Vast
from tests.summarizer.jobs import ROOT, TINY, job_folder, summarizer, write_corpus

SHORT = [
    *(option for option in TINY if not option.startswith(("hardware=", "trainer.threads="))), "trainer.max_steps=20",
    "hardware=4090", "hardware.accelerator=cpu", "hardware.precision=32-true", "hardware.compile=false",
]  # fmt: skip


def test_the_project_itself_holds_nothing_that_may_not_travel(tmp_path):
    capsule, _ = pack(ROOT, tmp_path, max_bytes=20_000_000)
    paths = {entry.path for entry in capsule.entries}
    assert {"summarizer/__main__.py", "conf/config.yaml", "pyproject.toml"} <= paths


@pytest.mark.slow
def test_a_rented_job_comes_home_as_a_local_one_would(tmp_path):
    reason = cage.why_not()
    if reason:
        pytest.skip(reason)
    project = tmp_path / "project"
    for name in subprocess.check_output(["git", "-C", ROOT, "ls-files", "-z"], text=True).split("\0"):
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    for step in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-qm", "All"],
    ):
        subprocess.run(["git", "-C", project, *step], check=True)
    (project / "README.md").write_text("Changed and not committed.\n")
    commit = subprocess.check_output(["git", "-C", project, "rev-parse", "HEAD"], text=True).strip()
    corpus = write_corpus(tmp_path / "corpus")
    results = tmp_path / "outputs"
    with Vast(tmp_path / "market") as market:
        done = summarizer(
            *SHORT, *corpus, "provider=vast", f"provider.api_url={market.url}", "provider.remote_root=/mnt/launchers",
            "provider.check_gpu=false", f"provider.python={sys.executable}", f"hydra.sweep.dir={results}",
            cwd=project, VAST_API_KEY=market.key, LAUNCHERS_HOME=str(tmp_path / "home"),
        )  # fmt: skip
        assert market.billed() == []
    folder = job_folder(done)
    assert folder == results / "0"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"test/rougeL", "test/lead1/rougeL", "test/is_a/rougeL"} <= metrics.keys()
    assert (folder / "predictions.parquet").exists()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert (provenance["commit"], provenance["dirty"]) == (commit, True)
    assert "+Changed and not committed." in (folder / "changes.diff").read_text()
    assert f"python -m summarizer task=predict run={folder} input=-" in done.stdout
    again = summarizer("task=evaluate", f"run={folder}", *corpus, "hardware=cpu", cwd=tmp_path)
    assert json.loads((job_folder(again) / "metrics.json").read_text())["test/rougeL"] == metrics["test/rougeL"]

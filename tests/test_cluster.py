"""The summarizer's own job on a real Slurm: one node as at home, and two nodes that train one model together."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators import slurm
from tests.emulators.slurm import Slurm
from tests.summarizer.jobs import TINY, job_folder, summarizer, write_corpus
from tests.test_rented import SHORT, checkout

__all__ = ["checkout"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.turns(3),
    pytest.mark.skipif(slurm.why_not() is not None, reason=str(slurm.why_not())),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        with Slurm(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job_on_a_cluster_comes_home_as_a_local_one_would(nodes: int, cluster: Slurm, checkout: Path, tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus")
    settings = [
        *SHORT,
        *corpus,
        "provider=slurm",
        "hardware=cpu",
        f"hardware.nodes={nodes}",
        "optim.effective_batch_size=8",
    ]
    on_cluster = {"HOME": str(tmp_path / "home"), "LAUNCHERS_HOME": str(tmp_path / "ledger"), **cluster.variables}
    (tmp_path / "home").mkdir()
    done = summarizer(
        *settings, "trainer.threads=1", f"hydra.sweep.dir={tmp_path / 'outputs'}", cwd=checkout, **on_cluster
    )
    metrics = json.loads((job_folder(done) / "metrics.json").read_text())
    assert {"test/rougeL", "test/lead1/rougeL"} <= metrics.keys()
    assert metrics["train/steps"] == 20
    checkpoints = json.loads((job_folder(done) / "provenance.json").read_text())
    assert checkpoints["commit"]
    if nodes == 2:
        assert (job_folder(done) / "nodes.json").exists()
        assert f"on each of {nodes} nodes" in done.stdout


def test_several_nodes_are_refused_where_none_can_be_had(tmp_path: Path):
    corpus = write_corpus(tmp_path / "corpus")
    here = summarizer(*TINY, *corpus, "hardware.nodes=2", cwd=tmp_path, check=False)
    assert here.returncode != 0
    assert "hardware.nodes=2: this machine is one" in here.stdout
    rented = summarizer(*TINY, *corpus, "hardware=4090", "provider=vast", "hardware.nodes=2", cwd=tmp_path, check=False)
    assert rented.returncode != 0
    assert "machines of Vast.ai share no network" in rented.stdout
    assert "Traceback" not in here.stdout + rented.stdout

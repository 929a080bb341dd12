"""Two processes train one model: every pair once, the same weights under DDP and FSDP, nothing left behind by a kill."""

import json
import signal

import pyarrow.parquet as parquet
import pytest
from safetensors.torch import load_file

from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus
from tests.summarizer.training.test_resume import wait_for_step

pytestmark = pytest.mark.slow

SETTINGS = [*TINY, "trainer.devices=2", "trainer.max_epochs=2", "trainer.validations=2", "trainer.checkpoint_every_n_steps=2"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("devices") / "corpus", test=13)


@pytest.fixture(scope="module")
def ddp(tmp_path_factory, corpus):
    home = tmp_path_factory.mktemp("ddp")
    return job_folder(summarizer(*SETTINGS, *corpus, "trainer=ddp", cwd=home))


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_each_row_is_evaluated_once_and_each_step_takes_both_processes_batches(ddp):
    rows = parquet.read_table(ddp / "predictions.parquet")["id"].to_pylist()
    assert len(rows) == len(set(rows)) == 13
    # 96 documents twice, 8 on each of two devices
    assert metrics(ddp)["train/steps"] == 12


def test_fsdp_ends_with_the_weights_of_ddp(ddp, corpus, tmp_path):
    folder = job_folder(summarizer(*SETTINGS, *corpus, "trainer=fsdp", cwd=tmp_path))
    one, other = (load_file(job / "model" / "model.safetensors") for job in (ddp, folder))
    assert one.keys() == other.keys()
    # sums of other orders: rounding, grown over 12 steps at a high learning rate
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 5e-3
    assert metrics(folder)["validation/loss"] == pytest.approx(metrics(ddp)["validation/loss"], abs=1e-2)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_job_leaves_no_process_and_resumes(strategy, corpus, ddp, tmp_path):
    folder = tmp_path / "killed" / "0"
    job = start(*SETTINGS, *corpus, f"trainer={strategy}", f"hydra.sweep.dir={folder.parent}", cwd=tmp_path)
    wait_for_step(folder, 4, job)
    job.signal(signal.SIGKILL)
    job.wait()
    done = summarizer(f"resume={folder}", cwd=tmp_path)  # its workers, too, are gone: they would hold their port and folder
    assert "continuing from step-" in done.stdout
    assert metrics(folder)["train/steps"] == 12
    assert metrics(folder)["validation/loss"] == pytest.approx(metrics(ddp)["validation/loss"], abs=1e-2)

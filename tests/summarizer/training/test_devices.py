"""Two processes train one model: every pair once, the same weights under DDP and FSDP, nothing left behind by a kill."""

import json
import signal

import pyarrow.parquet as parquet
import pytest
from safetensors.torch import load_file

from tests.emulators.hub import serve
from tests.summarizer.hub_contents import write_model
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus
from tests.summarizer.training.test_resume import wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]

SETTINGS = [
    *TINY,
    "trainer.devices=2",
    "trainer.max_epochs=2",
    "trainer.validations=2",
    "trainer.checkpoint_every_n_steps=2",
    "hardware.precision=32-true",  # a bias of keys has no gradient but rounding, which is larger in bfloat16
]


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
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 1e-3
    assert metrics(folder)["validation/loss"] == pytest.approx(metrics(ddp)["validation/loss"], abs=1e-4)


def test_fsdp_ends_where_the_devices_have_rows_for_unlike_numbers_of_batches(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", validation=17)
    small = ["trainer.batch_size=4", "trainer.max_epochs=1"]
    job = start(*SETTINGS, *small, *corpus, "trainer=fsdp", cwd=tmp_path)
    assert job.wait(180) == 0, job.output[-3000:]


def test_the_validation_loss_is_that_of_one_device(corpus, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", validation=13)
    still = ["optim.lr=1e-12", "trainer.max_epochs=1", "trainer.validations=1"]  # no weight moves
    losses = [
        metrics(job_folder(summarizer(*SETTINGS, *still, *corpus, *options, cwd=tmp_path)))["validation/loss"]
        for options in (["trainer.devices=1"], ["trainer=ddp"], ["trainer=fsdp"])
    ]
    assert losses[1:] == pytest.approx(losses[:1] * 2, rel=1e-6)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_killed_job_leaves_no_process_and_resumes(strategy, corpus, ddp, tmp_path):
    folder = tmp_path / "killed" / "0"
    job = start(*SETTINGS, *corpus, f"trainer={strategy}", f"hydra.sweep.dir={folder.parent}", cwd=tmp_path)
    wait_for_step(folder, 4, job)
    job.signal(signal.SIGKILL)
    job.wait()
    done = summarizer(
        f"resume={folder}", cwd=tmp_path
    )  # its workers, too, are gone: they would hold their port and folder
    assert "continuing from step-" in done.stdout
    assert metrics(folder)["train/steps"] == 12
    assert metrics(folder)["validation/loss"] == pytest.approx(metrics(ddp)["validation/loss"], abs=1e-2)


MODELS = {"t5_small": "google-t5/t5-small", "llm_lora": "Qwen/Qwen2.5-0.5B"}
PACKED = [
    "data=files", "hardware=cpu", "trainer.packing=always", "trainer.threads=1", "trainer.devices=2", "trainer.batch_size=8",
    "optim.effective_batch_size=32", "hardware.tokens_per_step=400", "trainer.max_epochs=4", "trainer.validations=2",
    "trainer.checkpoint_every_n_steps=2", "model.max_source_tokens=64", "model.max_target_tokens=16", "model.dropout=0.0",
    "generation.num_beams=2", "generation.max_new_tokens=8", "evaluation.bootstrap_samples=20", "callbacks.progress=false",
    "hardware.workers=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    home = tmp_path_factory.mktemp("hub")
    for hub_id in MODELS.values():
        write_model(home / "hub", hub_id)
    with serve(home / "hub") as running:
        yield {"HF_ENDPOINT": running.address, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}


@pytest.fixture(scope="module")
def packed_ddp(tmp_path_factory, corpus, hub):
    home = tmp_path_factory.mktemp("packed")
    return summarizer(*PACKED, *corpus, "model=t5_small", "trainer=ddp", cwd=home, **hub)


def test_packed_fsdp_killed_and_resumed_ends_with_the_weights_of_packed_ddp(packed_ddp, corpus, hub, tmp_path):
    folder = tmp_path / "killed" / "0"
    options = ["model=t5_small", "trainer=fsdp", f"hydra.sweep.dir={folder.parent}"]
    job = start(*PACKED, *corpus, *options, cwd=tmp_path, **hub)
    wait_for_step(folder, 4, job)
    job.signal(signal.SIGKILL)
    job.wait()
    done = summarizer(f"resume={folder}", cwd=tmp_path, **hub)
    assert "continuing from step-" in done.stdout
    whole = job_folder(packed_ddp)
    for output in (job.output, packed_ddp.stdout):
        assert "instead of packing" not in output
    one, other = (load_file(job / "model" / "model.safetensors") for job in (whole, folder))
    assert one.keys() == other.keys()
    # sums of other orders: rounding, grown over the steps
    assert max(float((one[name] - other[name]).abs().max()) for name in one) < 5e-3
    for key in ("train/steps", "validation/loss"):
        assert metrics(folder)[key] == pytest.approx(metrics(whole)[key], abs=1e-2), key


def test_packed_lora_takes_the_same_steps_under_fsdp_and_ddp(corpus, hub, tmp_path):
    found = []
    for strategy in ("ddp", "fsdp"):
        options = ["model=llm_lora", "model.lora.dropout=0.0", "trainer.max_steps=2", "trainer.validations=1"]
        done = summarizer(*PACKED, *corpus, *options, f"trainer={strategy}", cwd=tmp_path, **hub)
        assert "instead of packing" not in done.stdout
        found.append(metrics(job_folder(done)))
    for key in ("train/loss", "train/gradient_norm", "validation/loss"):
        assert found[0][key] == pytest.approx(found[1][key], rel=2e-3), key

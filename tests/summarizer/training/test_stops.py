"""How a training ends that does not reach its end: the same words, exit code and status on one device and on several."""

from __future__ import annotations

import json
import re
import signal
import time

import psutil
import pytest

from summarizer.stages import Stage, read_stages
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]

SETTINGS = [
    *TINY,
    "hardware.precision=32-true",
    "trainer.log_every_n_steps=1",
    "trainer.validations=1",
    "trainer.batch_size=4",
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("stops") / "corpus", train=160, test=3000)


def started(corpus, folder, *more, devices=1, cwd):
    options = [f"trainer.devices={devices}", f"hydra.sweep.dir={folder.parent}"]
    return start(*SETTINGS, *corpus, *options, *more, cwd=cwd)


def wait_for_stage(folder, stage, job):
    while job.running() and (stage not in [entered for _, entered in read_stages(folder / "logs")]):
        time.sleep(0.05)
    assert job.running(), job.output[-3000:]


def status(folder):
    return json.loads((folder / "status.json").read_text())


def assert_stopped(job, folder, sentence):
    assert job.wait() == 130
    assert re.search(sentence, job.output), job.output[-3000:]
    assert f"Continue: python -m summarizer resume={folder}\n" in job.output
    for noise in ("Traceback", "Error:", "SignalException"):
        assert noise not in job.output, job.output[-3000:]
    assert status(folder)["state"] == "interrupted"


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_training_and_its_test_in_one_way_on_any_number_of_devices(number, devices, corpus, tmp_path):
    folder = tmp_path / "stopped" / "0"
    # as many steps on two devices; no checkpoint of its own accord
    more = ["trainer.max_epochs=20", "trainer.max_steps=300", "trainer.checkpoint_every_n_steps=1000"]
    job = started(corpus, folder, *more, f"optim.effective_batch_size={4 * devices}", devices=devices, cwd=tmp_path)
    wait_for_stage(folder, Stage.training, job)
    job.signal(number)
    assert_stopped(job, folder, r"\nStopped at step \d+ of 300; saved\. Continue: ")
    assert list((folder / "checkpoints").glob("step-*.ckpt"))
    job = start(f"resume={folder}", cwd=tmp_path)
    wait_for_stage(folder, Stage.test, job)
    time.sleep(0.5)
    job.signal(number)
    assert_stopped(job, folder, r"\nStopped; the last checkpoint is kept\. Continue: ")
    assert "continuing from step-" in (folder / "job.log").read_text()


@pytest.mark.parametrize("devices", [1, 2])
def test_a_loss_that_is_no_number_is_one_sentence_on_any_number_of_devices(devices, corpus, tmp_path):
    folder = tmp_path / "diverged" / "0"
    more = ["optim.lr=1e6", "optim.gradient_clip_norm=null", "trainer.max_epochs=4"]
    job = started(corpus, folder, *more, devices=devices, cwd=tmp_path)
    assert job.wait() == 2, job.output[-3000:]
    assert re.search(r"\nError: the training loss is (nan|inf) at step ", job.output), job.output[-3000:]
    assert "Traceback" not in job.output
    assert status(folder)["state"] == "failed"
    assert status(folder)["error"].startswith("DivergenceError: ")


def test_a_killed_process_ends_the_others_and_is_named_in_one_sentence(corpus, tmp_path):
    folder = tmp_path / "killed" / "0"
    job = started(corpus, folder, "trainer.max_epochs=100", devices=2, cwd=tmp_path)
    wait_for_stage(folder, Stage.training, job)
    ranks = [p for p in psutil.Process(job.process.pid).children() if "spawn_main" in " ".join(p.cmdline())]
    ranks[-1].kill()
    assert job.wait() == 2, job.output[-3000:]
    assert re.search(r"\nError: process \d of 2 was ended by SIGKILL", job.output), job.output[-3000:]
    assert f"python -m summarizer resume={folder}\n" in job.output
    assert "Traceback" not in job.output
    assert status(folder)["state"] == "failed"
    assert not any(rank.is_running() for rank in ranks)


def test_too_few_rows_to_validate_on_are_one_sentence(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", validation=1)
    done = summarizer(*SETTINGS, *corpus, "trainer=fsdp", "trainer.devices=2", cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "\nError: the validation split has 1 rows, too few for 2 devices" in done.stderr
    assert "Traceback" not in done.stderr


def test_several_devices_write_one_account_of_their_stages(tmp_path):
    done = summarizer(*SETTINGS, *write_corpus(tmp_path / "corpus"), "trainer.devices=2", cwd=tmp_path)
    seconds = json.loads((job_folder(done) / "provenance.json").read_text())["stages"]
    assert set(seconds) == {"start", "tokenizing", "training", "validation", "test", "export"}

"""An interrupted and resumed run ends with the very weights and metrics of an uninterrupted one."""

import json
import random
import signal
import time

import pytest
from safetensors.torch import load_file

from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus

pytestmark = pytest.mark.slow

# 96 documents by 8, three epochs: 36 steps of one pass, or 18 of two; validations at thirds; dropout and averaging on
SETTINGS = [
    *TINY, "trainer.max_epochs=3", "trainer.validations=3", "trainer.checkpoint_every_n_steps=4", "model.dropout=0.1",
    "optim.ema_decay=0.9", "trainer.log_every_n_steps=1",
]  # fmt: skip


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def same_result(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)
    timed = ("second", "memory", "wait")
    measured = [
        {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if not any(t in k for t in timed)}
        for folder in (one, other)
    ]
    assert measured[0] == measured[1]


def wait_for_step(folder, step, process):
    """Until the metrics table shows the step, or the process has ended."""
    while process.running():
        table = folder / "logs" / "metrics.csv"
        newest = max((int(p.stem.split("-")[1]) for p in (folder / "checkpoints").glob("step-*.ckpt")), default=0)
        if newest >= step or (table.exists() and f"\n{step}," in table.read_text()):
            return
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run and the corpus it learnt from, for each accumulation."""
    home = tmp_path_factory.mktemp("resume")
    corpus = write_corpus(home / "corpus")
    runs = {}
    for passes in (1, 2):
        extra = [f"optim.effective_batch_size={8 * passes}"]
        runs[passes] = job_folder(
            summarizer(*SETTINGS, *corpus, *extra, f"hydra.sweep.dir={home}/whole-{passes}", cwd=home)
        )
    return home, corpus, runs


@pytest.mark.parametrize(("seed", "passes"), [(0, 1), (1, 1), (2, 2)])
def test_a_run_killed_at_random_steps_ends_bit_equal(whole, seed, passes):
    home, corpus, runs = whole
    rng = random.Random(seed)
    folder = home / f"killed-{seed}" / "0"
    arguments = [*SETTINGS, *corpus, f"optim.effective_batch_size={8 * passes}", f"hydra.sweep.dir={folder.parent}"]
    kills = 0
    for _ in range(3):
        process = start(*arguments, cwd=home)
        done = max((int(p.stem.split("-")[1]) for p in (folder / "checkpoints").glob("step-*.ckpt")), default=0)
        wait_for_step(folder, done + rng.randint(1, 9), process)
        time.sleep(rng.random() * 0.3)  # anywhere: in a step, in a validation, in the writing of a checkpoint
        if process.running():
            process.signal(signal.SIGKILL)
            kills += 1
        process.wait()
        arguments = [f"resume={folder}"] if (folder / "config.yaml").exists() else arguments
    assert kills >= 1
    summarizer(f"resume={folder}", cwd=home)
    same_result(runs[passes], folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_asked_to_stop_saves_and_says_how_to_continue(whole, number):
    home, corpus, runs = whole
    folder = home / f"stopped-{number}" / "0"
    # no checkpoint of its own accord: what is found afterwards was written because of the signal
    extra = ["trainer.checkpoint_every_n_steps=1000", "optim.effective_batch_size=8"]
    process = start(*SETTINGS, *corpus, *extra, f"hydra.sweep.dir={folder.parent}", cwd=home)
    wait_for_step(folder, 3, process)
    process.signal(number)
    assert process.wait() == 130
    assert f"Continue: python -m summarizer resume={folder}\n" in process.output
    assert "Traceback" not in process.output
    assert json.loads((folder / "status.json").read_text())["state"] == "interrupted"
    assert list((folder / "checkpoints").glob("step-*.ckpt"))
    summarizer(f"resume={folder}", cwd=home)
    same_result(runs[1], folder)


def test_a_truncated_checkpoint_is_passed_over_with_a_warning(whole, tmp_path):
    home, corpus, runs = whole
    folder = tmp_path / "cut" / "0"
    process = start(*SETTINGS, *corpus, "optim.effective_batch_size=8", f"hydra.sweep.dir={folder.parent}", cwd=home)
    wait_for_step(folder, 9, process)
    process.signal(signal.SIGKILL)
    process.wait()
    newest = max((folder / "checkpoints").glob("step-*.ckpt"))
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    done = summarizer(f"resume={folder}", cwd=home)
    assert newest.name in done.stdout + done.stderr
    same_result(runs[1], folder)


def test_averages_of_bfloat16_weights_continue_to_the_bit(whole, tmp_path):
    _, corpus, _ = whole
    arguments = [*SETTINGS, *corpus, "hardware.precision=bf16-true", "trainer.max_epochs=1", "optim.ema_decay=0.99"]
    one = job_folder(summarizer(*arguments, cwd=tmp_path))
    folder = tmp_path / "killed" / "0"
    process = start(*arguments, f"hydra.sweep.dir={folder.parent}", cwd=tmp_path)
    wait_for_step(folder, 5, process)
    process.signal(signal.SIGKILL)
    process.wait()
    assert "continuing from" in summarizer(f"resume={folder}", cwd=tmp_path).stdout
    same_result(one, folder)


def test_a_finished_job_is_not_run_again(whole):
    home, _, runs = whole
    before = (runs[1] / "metrics.json").stat().st_mtime_ns
    done = summarizer(f"resume={runs[1]}", cwd=home)
    assert job_folder(done) == runs[1]
    assert (runs[1] / "metrics.json").stat().st_mtime_ns == before


def test_a_checkpoint_of_another_model_is_refused(whole, tmp_path):
    home, corpus, _ = whole
    folder = tmp_path / "other" / "0"
    process = start(*SETTINGS, *corpus, "optim.effective_batch_size=8", f"hydra.sweep.dir={folder.parent}", cwd=home)
    wait_for_step(folder, 5, process)
    process.signal(signal.SIGKILL)
    process.wait()
    done = summarizer(f"resume={folder}", "model.shape.d_model=64", cwd=home, check=False)
    assert done.returncode == 2
    assert "another model" in done.stderr

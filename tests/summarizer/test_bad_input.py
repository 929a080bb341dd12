"""What a user can get wrong in a whole run: one sentence, exit code 2, no traceback, nothing lost. Real processes."""

import json
import os
import subprocess

import pytest

from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus
from tests.summarizer.training.test_resume import wait_for_step

pytestmark = [pytest.mark.slow, pytest.mark.turns(8)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("bad") / "corpus", train=48, validation=6, test=6)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus):
    home = tmp_path_factory.mktemp("finished")
    return job_folder(summarizer(*TINY, *corpus, "trainer.max_steps=2", cwd=home))


def refused(done):
    """The one sentence of a command that was refused."""
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 2, done.stdout
    assert len(errors) == 1, done.stdout
    assert "Traceback" not in done.stdout
    return errors[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["hardware=a100"], ["hardware=a100 needs cuda", "this machine has cpu", "hardware=auto"]),
        (["hardware=mps"], ["hardware=mps needs mps", "this machine has cpu"]),
        (["data.document_column=text"], ["no column text", "data.document_column"]),
        (["data.test_file=null"], ["no test split", "data.test_file"]),
        # what only the end of the job would miss
        (["evaluation.bertscore=true"], ["bert-score", "pip install 'summarizer[bertscore]'"]),
        (["export.push_to_hub=someone/short"], ["export.push_to_hub=someone/short", "HF_TOKEN"]),
        (["hydra.sweep.dir=/proc/nowhere"], ["/proc/nowhere", "hydra.sweep.dir"]),
    ],
)
def test_what_cannot_start_says_why_and_what_to_do(arguments, words, corpus, tmp_path):
    sentence = refused(summarizer(*TINY, *corpus, *arguments, cwd=tmp_path, check=False, HF_HOME=str(tmp_path)))
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["task=evaluate", "run=/nowhere"], ["/nowhere", "job's folder"]),
        (["task=predict", "run=/nowhere", "input=x.txt"], ["/nowhere", "job's folder"]),
        (["resume=/nowhere"], ["/nowhere", "job's folder"]),
    ],
)
def test_a_folder_that_is_no_job_is_named(arguments, words, tmp_path):
    sentence = refused(summarizer(*arguments, cwd=tmp_path, check=False))
    assert all(word in sentence for word in words), sentence


def test_too_little_memory_says_which_settings_to_lower(corpus, tmp_path):
    # an embedding table of some 400 TB: the allocator refuses it on any machine
    arguments = [*TINY, *corpus, "model.shape.d_model=200000000", "model.shape.d_ff=1000000", "hardware=cpu"]
    sentence = refused(summarizer(*arguments, cwd=tmp_path, check=False))
    assert "trainer.batch_size" in sentence
    assert "memory" in sentence


def test_a_full_disk_leaves_the_previous_checkpoint_and_the_job_resumable(corpus, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        folder = disk / "run" / "0"
        arguments = [
            *TINY,
            *corpus,
            "trainer.max_epochs=40",
            "trainer.checkpoint_every_n_steps=5",
            "trainer.validations=1",
        ]
        job = start(*arguments, f"hydra.sweep.dir={folder.parent}", cwd=tmp_path)
        wait_for_step(folder, 5, job)
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(os.urandom(4096))
            except OSError:
                pass
        assert job.wait() == 2, job.output
        assert "free disk space" in job.output
        assert f"resume={folder}" in job.output
        (disk / "filler").unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        done = summarizer(f"resume={folder}", cwd=tmp_path)
        assert "continuing from step-" in done.stdout
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_one_job_has_one_writer(corpus, tmp_path):
    folder = tmp_path / "run" / "0"
    job = start(*TINY, *corpus, "trainer.max_epochs=200", f"hydra.sweep.dir={folder.parent}", cwd=tmp_path)
    wait_for_step(folder, 2, job)
    assert "running now" in refused(summarizer(f"resume={folder}", cwd=tmp_path, check=False))
    job.process.terminate()
    job.wait()


def test_a_finished_job_is_not_run_twice_and_a_folder_is_not_taken_by_another_job(finished, corpus, tmp_path):
    before = (finished / "metrics.json").stat().st_mtime_ns
    again = summarizer(f"resume={finished}", cwd=tmp_path)
    assert "already finished" in again.stdout
    assert (finished / "metrics.json").stat().st_mtime_ns == before
    other = summarizer(
        *TINY,
        *corpus,
        "trainer.max_steps=2",
        "optim.lr=0.5",
        f"hydra.sweep.dir={finished.parent}",
        cwd=tmp_path,
        check=False,
    )
    assert "another optim" in refused(other)


def test_a_streamed_training_needs_its_number_of_steps_and_then_runs(corpus, tmp_path):
    assert "trainer.max_steps" in refused(summarizer(*TINY, *corpus, "data.streaming=true", cwd=tmp_path, check=False))
    folder = job_folder(summarizer(*TINY, *corpus, "data.streaming=true", "trainer.max_steps=8", cwd=tmp_path))
    assert json.loads((folder / "metrics.json").read_text())["train/steps"] == 8


def test_the_last_line_names_the_folder_and_evaluate_repeats_the_figures(finished, tmp_path):
    folder = job_folder(summarizer("task=evaluate", f"run={finished}", cwd=tmp_path))
    one, other = (json.loads((job / "metrics.json").read_text()) for job in (finished, folder))
    figures = [key for key in other if key.startswith("test/") and "seconds" not in key]
    assert len(figures) > 20
    assert {key: one[key] for key in figures} == {key: other[key] for key in figures}


def test_a_training_that_loses_its_way_ends_soon_and_says_so(corpus, tmp_path):
    arguments = ["optim.lr=1e6", "trainer.max_steps=40", "trainer.log_every_n_steps=2"]
    done = summarizer(*TINY, *corpus, *arguments, cwd=tmp_path, check=False)
    sentence = refused(done)
    assert "optim.lr=1e+06" in sentence
    step = int(sentence.partition("at step ")[2].partition(":")[0])
    assert step < 20

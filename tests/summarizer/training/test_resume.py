"""An interrupted and resumed run ends with the very weights and metrics of an uninterrupted one."""

import json
import random
import shutil
import signal
import time

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from summarizer.training.checkpointing import read_checkpoint
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]

# 96 documents by 8, three epochs: 36 steps of one pass, or 18 of two; validations at thirds; dropout and averaging on
SETTINGS = [
    *TINY, "trainer.max_epochs=3", "trainer.validations=3", "trainer.checkpoint_every_n_steps=4", "model.dropout=0.1",
    "optim.ema_decay=0.9", "trainer.log_every_n_steps=1",
]  # fmt: skip


def weights(folder):
    return load_file(folder / "model" / "model.safetensors")


def best(folder):
    """Step, score and weights of the best checkpoint."""
    content = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    scores = [state["best_model_score"] for key, state in content["callbacks"].items() if "BestCheckpoint" in key]
    return content["global_step"], scores, content["state_dict"]


def same_result(one, other):
    (step, scores, values), (step_2, scores_2, values_2) = best(one), best(other)
    assert (step, scores) == (step_2, scores_2)
    assert all(values[name].equal(values_2[name]) for name in values)
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


def moved(folder, target):
    """The job's folder, as another machine would name it."""
    target.mkdir(parents=True)
    return folder.rename(target / folder.name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run and the corpus it learned from, for each accumulation."""
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
    # checkpoints fall between two logged steps: what was measured since the last one is not lost
    extra = [f"optim.effective_batch_size={8 * passes}", "trainer.log_every_n_steps=3"]
    arguments = [*SETTINGS, *corpus, *extra, f"hydra.sweep.dir={folder.parent}"]
    kills = 0
    for number in range(3):
        process = start(*arguments, cwd=home)
        done = max((int(p.stem.split("-")[1]) for p in (folder / "checkpoints").glob("step-*.ckpt")), default=0)
        wait_for_step(folder, done + rng.randint(1, 9), process)
        time.sleep(rng.random() * 0.3)  # anywhere: in a step, in a validation, in the writing of a checkpoint
        if process.running():
            process.signal(signal.SIGKILL)
            kills += 1
        process.wait()
        if (folder / "config.yaml").exists():
            folder = moved(folder, home / f"killed-{seed}-{number}")
            arguments = [f"resume={folder}"]
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
    assert "model.shape.d_model 32 -> 64" in done.stderr


def record(folder):
    """All that a start of a job writes down about it."""
    files = ["config.yaml", "overrides.yaml", "provenance.json", "status.json", "tokenizer/tokenizer.json"]
    return {name: (folder / name).read_bytes() for name in files} | {"resumed": (folder / "resumed").exists()}


@pytest.mark.parametrize("refused", ["model.shape.d_model=64", "trainer.devices=2", "data.train_file=/nowhere.jsonl"])
def test_a_refused_resume_leaves_the_job_as_it_was_and_an_accepted_one_is_recorded_beside_it(whole, tmp_path, refused):
    home, corpus, runs = whole
    folder = tmp_path / "job" / "0"
    process = start(*SETTINGS, *corpus, "optim.effective_batch_size=8", f"hydra.sweep.dir={folder.parent}", cwd=home)
    wait_for_step(folder, 5, process)
    process.signal(signal.SIGTERM)
    process.wait()
    before = record(folder)
    assert json.loads(before["status.json"])["state"] == "interrupted"
    done = summarizer(f"resume={folder}", refused, cwd=home, check=False)
    assert done.returncode == 2
    assert record(folder) == before
    summarizer(f"resume={folder}", "logger=all", "logger.wandb=false", cwd=home)
    same_result(runs[1], folder)
    after = record(folder)
    assert after["overrides.yaml"] == before["overrides.yaml"]
    assert after["provenance.json"] == before["provenance.json"]
    assert b"tensorboard: true" in after["config.yaml"]
    (resumed,) = (folder / "resumed").glob("*.yaml")
    told = OmegaConf.load(resumed)
    assert "logger=all" in told.overrides
    assert told.changed == {"logger.tensorboard": {"before": False, "after": True}}
    assert json.loads((folder / "resumed" / "1.json").read_text())["seconds"] > 0


def test_a_run_that_had_stopped_early_reports_what_it_did(whole, tmp_path):
    home, corpus, _ = whole
    settings = [
        "callbacks=early_stopping",
        "callbacks.early_stopping_patience=1",
        "optim.lr=1e-9",
        "trainer.validations=6",
    ]
    folder = job_folder(summarizer(*SETTINGS, *corpus, *settings, f"hydra.sweep.dir={tmp_path}", cwd=home))
    first = json.loads((folder / "metrics.json").read_text())
    assert 0 < first["train/steps"] < 36
    for name in ("metrics.json", "status.json"):  # as if it had been killed while it wrote the test split
        (folder / name).unlink()
    summarizer(f"resume={folder}", cwd=home)
    second = json.loads((folder / "metrics.json").read_text())
    assert second["train/steps"] == first["train/steps"]
    assert second.keys() == first.keys()
    assert first["train/seconds"] / 10 < second["train/seconds"] <= first["train/seconds"]
    assert second["train/tokens_per_second"] == pytest.approx(first["train/tokens_per_second"])


def stopped(folder, corpus, home, *settings, after=5):
    """A job that was asked to stop after some steps."""
    base = [*SETTINGS, *corpus, "optim.effective_batch_size=8"]
    process = start(*base, *settings, f"hydra.sweep.dir={folder.parent}", cwd=home)
    wait_for_step(folder, after, process)
    process.signal(signal.SIGTERM)
    assert process.wait() == 130, process.output
    return folder


def texts(content):
    """Every string in a checkpoint, keys included."""
    if isinstance(content, dict):
        return [text for pair in content.items() for part in pair for text in texts(part)]
    if isinstance(content, list | tuple):
        return [text for part in content for text in texts(part)]
    return [content] if isinstance(content, str) else []


def test_a_job_in_another_folder_knows_its_best_score(whole, tmp_path):
    home, corpus, _ = whole
    # at this rate the model only gets worse, so that the first validation is never beaten
    settings = ["optim.lr=1", "optim.gradient_clip_norm=null", "trainer.validations=6"]
    uninterrupted = job_folder(
        summarizer(
            *SETTINGS, *corpus, "optim.effective_batch_size=8", *settings, f"hydra.sweep.dir={tmp_path}/whole", cwd=home
        )
    )
    assert best(uninterrupted)[0] == 6
    folder = moved(stopped(tmp_path / "job" / "0", corpus, home, *settings, after=8), tmp_path / "elsewhere")
    paths = [text for path in (folder / "checkpoints").glob("*.ckpt") for text in texts(read_checkpoint(path))]
    assert not [text for text in paths if str(tmp_path) in text]
    done = summarizer(f"resume={folder}", cwd=home)
    assert "dirpath" not in done.stdout
    same_result(uninterrupted, folder)


def test_a_best_checkpoint_that_was_lost_on_the_way_is_had_again(whole, tmp_path):
    home, corpus, _ = whole
    # the first of two validations is the best, as above; the second one is not reached before the stop
    settings = [
        "optim.lr=1", "optim.gradient_clip_norm=null", "scheduler=constant", "trainer.max_epochs=20", "trainer.validations=2",
        "trainer.checkpoint_every_n_steps=1000",
    ]  # fmt: skip
    command = [*SETTINGS, *corpus, "optim.effective_batch_size=8", *settings]
    uninterrupted = job_folder(summarizer(*command, f"hydra.sweep.dir={tmp_path}/whole", cwd=home))
    assert best(uninterrupted)[0] == 120
    folder = stopped(tmp_path / "job" / "0", corpus, home, *settings, after=120)
    content = (folder / "checkpoints" / "best.ckpt").read_bytes()
    older = read_checkpoint(folder / "checkpoints" / "best.ckpt")
    older["global_step"] = 60
    older["state_dict"] = {name: value * 0 for name, value in older["state_dict"].items()}
    for number, damage in enumerate(("missing", "older", "truncated")):
        copy = tmp_path / f"copy-{number}" / "0"
        shutil.copytree(folder, copy)
        target = copy / "checkpoints" / "best.ckpt"
        target.unlink()
        if damage == "older":
            torch.save(older, target)
        elif damage == "truncated":
            target.write_bytes(content[: len(content) // 2])
        summarizer(f"resume={copy}", cwd=home)
        same_result(uninterrupted, copy)
    # where no step checkpoint has its weights either, no wrong model is made
    for path in (folder / "checkpoints" / "best.ckpt", folder / "checkpoints" / "step-00000120.ckpt"):
        path.unlink()
    done = summarizer(f"resume={folder}", cwd=home, check=False)
    assert done.returncode == 2
    assert "the best checkpoint so far, of step 120, is not in the folder" in done.stdout


def files_of(folder):
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (".lock", "job.log")
    }


def test_a_job_whose_data_changed_is_refused_until_they_are_restored(whole, tmp_path):
    home, _, runs = whole
    corpus = write_corpus(tmp_path / "corpus")
    folder = stopped(tmp_path / "job" / "0", corpus, home)
    before = files_of(folder)
    for split, rows in {"train": 96, "validation": 12}.items():
        file = tmp_path / "corpus" / f"{split}.jsonl"
        content = file.read_text()
        file.write_text(content + json.dumps({"id": "new", "document": "Zebras graze.", "summary": "zebras"}) + "\n")
        done = summarizer(f"resume={folder}", cwd=home, check=False)
        assert done.returncode == 2
        (sentence,) = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
        assert f"the {split} data changed ({rows} rows -> {rows + 1})" in sentence
        assert f"restore {file}" in sentence
        assert files_of(folder) == before
        file.write_text(content)
    # what is scored at the end is no part of what was trained
    (tmp_path / "corpus" / "test.jsonl").write_text(content)
    shutil.rmtree(home / "cache" / "tokenizers")  # the job has its own
    done = summarizer(f"resume={folder}", cwd=home)
    assert "learning a tokenizer" not in done.stdout
    assert all(value.equal(weights(runs[1])[name]) for name, value in weights(folder).items())


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("optim.lr=0.1", "optim.lr 0.003 -> 0.1"), ("trainer.batch_size=4", "trainer.batch_size 8 -> 4"),
        ("model.max_source_tokens=48", "model.max_source_tokens 96 -> 48"), ("seed=3", "seed 0 -> 3"),
    ],
)  # fmt: skip
def test_a_plan_that_changed_is_refused_with_the_way_out(whole, tmp_path, setting, named):
    home, corpus, _ = whole
    folder = stopped(tmp_path / "job" / "0", corpus, home)
    before = files_of(folder)
    done = summarizer(f"resume={folder}", setting, cwd=home, check=False)
    assert done.returncode == 2
    assert named in done.stdout
    assert f"resume={folder}`" in done.stdout
    assert f"or add {setting.partition('=')[0]}={named.split()[1]}" in done.stdout
    assert files_of(folder) == before


def test_a_checkpoint_that_does_not_say_what_it_belongs_to_is_refused(whole, tmp_path):
    home, corpus, _ = whole
    folder = stopped(tmp_path / "job" / "0", corpus, home)
    for path in (folder / "checkpoints").glob("step-*.ckpt"):
        content = read_checkpoint(path)
        del content["summarizer"]["key"]
        torch.save(content, path)
    done = summarizer(f"resume={folder}", cwd=home, check=False)
    assert done.returncode == 2
    assert "earlier version" in done.stdout


def test_a_finished_job_of_other_data_is_not_taken_for_this_one(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=24, validation=4, test=4)
    command = [*TINY, *corpus, "trainer.max_steps=2", f"hydra.sweep.dir={tmp_path}/job"]
    folder = job_folder(summarizer(*command, cwd=tmp_path))
    (tmp_path / "corpus").rename(tmp_path / "moved")
    elsewhere = [option.replace("/corpus/", "/moved/") for option in corpus]
    for same in ([f"resume={folder}"], [*TINY, *elsewhere, *command[-2:]]):
        assert "already finished" in summarizer(*same, cwd=tmp_path).stdout
    with (tmp_path / "moved" / "test.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "document": "Zebras graze.", "summary": "zebras"}) + "\n")
    for other in ([f"resume={folder}", *elsewhere], [*TINY, *elsewhere, *command[-2:]]):
        done = summarizer(*other, cwd=tmp_path, check=False)
        assert done.returncode == 2
        assert "other data (test: 4 rows -> 5)" in done.stdout
    done = summarizer(f"resume={folder}", "optim.lr=0.1", cwd=tmp_path, check=False)
    assert (done.returncode, "optim.lr cannot be changed" in done.stdout) == (2, True)

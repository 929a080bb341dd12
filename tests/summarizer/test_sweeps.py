"""Composition and search, over the real command line: what composes last, what starts a sweep, what it optimizes, how it stops."""

from __future__ import annotations

import csv
import json
import shlex
import signal
from pathlib import Path

import pytest
import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.utilities.exceptions import SIGTERMException

from summarizer.application import job
from summarizer.errors import ConfigError
from summarizer.metric_names import OBJECTIVE, TRAINING, measured_at_validation
from summarizer.objective import direction_of
from summarizer.paths import config_dir
from summarizer.sweeps import refuse
from tests.summarizer.composition import composed
from tests.summarizer.jobs import TINY, job_folder, start, summarizer, write_corpus
from tests.summarizer.training.test_resume import wait_for_step

MADE_UP = """\
# @package _global_
defaults:
  - override /optim: adafactor
name: mine
seed: 7
evaluation: {splits: [validation], bootstrap_samples: 10}
predict: {long_input: windows}
sweep: {metric: validation/loss}
optim: {lr: 0.5}
hydra:
  sweep: {dir: somewhere}
  sweeper: {params: {optim.lr: "1,2"}}
"""


def named(node: DictConfig, prefix: str = "") -> dict[str, object]:
    """Each key that a config file sets, dotted, with its value."""
    found: dict[str, object] = {}
    for key, value in node.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, DictConfig) and path not in ("hydra.sweeper.params", "sweep.params"):
            found |= named(value, path)
        elif path != "defaults":
            found[path] = value
    return found


def assert_composed_last(file: Path, config: DictConfig) -> None:
    settings = named(OmegaConf.load(file))
    assert settings
    for key, value in settings.items():
        assert OmegaConf.select(config, key) == value, key


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (config_dir() / "experiment").glob("*.yaml")))
def test_every_key_of_a_shipped_experiment_is_in_the_composed_job(experiment):
    config = composed(f"experiment={experiment}", hydra=True)
    assert_composed_last(config_dir() / "experiment" / f"{experiment}.yaml", config)


def test_an_experiment_sets_any_key_and_the_command_line_has_the_last_word(tmp_path):
    (tmp_path / "experiment").mkdir()
    file = tmp_path / "experiment" / "mine.yaml"
    file.write_text(MADE_UP)
    assert_composed_last(file, composed("experiment=mine", hydra=True, config_dirs=[tmp_path]))
    assert composed("experiment=mine", "seed=9", config_dirs=[tmp_path]).seed == 9


# --------------------------------------------------------------------------- what starts a sweep
def refused(*arguments: str, cwd: Path) -> str:
    """The sentence of a refused command, which has left nothing behind."""
    before = sorted(cwd.iterdir())
    done = summarizer(*arguments, cwd=cwd, check=False)
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert done.returncode == 2, done.stdout
    assert len(errors) == 1, done.stdout
    assert "Traceback" not in done.stdout
    assert [path for path in sorted(cwd.iterdir()) if path.suffix != ".log" and path not in before] == []
    return errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["optim.lr=1e-4,3e-4"],
        ["optim.lr=1e-4,3e-4", "provider=vast", "hardware=4090"],
        ["optim.lr=1e-4,3e-4", "provider=modal", "hardware=a100"],
        ["optim.lr=1e-4,3e-4", "provider=jarvis", "hardware=a100"],
        ["optim.lr=1e-4,3e-4", "hydra.mode=RUN"],
        ["seed=choice(1,2)"],
        ["seed=range(1,3)"],
        ["model=glob(t5*)"],
        ["model=t5_small,tiny"],
        ["experiment=learning_rate"],
        ["sweep=tpe"],
        ["sweep.seeds=2"],
        ["seed=1,2", "--cfg", "job"],
    ],
)
def test_several_values_without_m_are_refused_before_anything_starts(arguments, tmp_path):
    assert "add -m" in refused(*arguments, cwd=tmp_path)


def test_a_search_whose_keys_are_all_given_one_value_is_one_job():
    one = ["optim.lr=0.001", "model.dropout=0.1", "generation.num_beams=4", "generation.length_penalty=0.8"]
    refuse(composed("experiment=tune_tiny", *one, hydra=True))
    with pytest.raises(ConfigError, match="length_penalty, one job each: add -m"):
        refuse(composed("experiment=tune_tiny", *one[:3], hydra=True))
    with pytest.raises(ConfigError, match="sweep=tpe runs many jobs: add -m"):
        refuse(composed("experiment=tune_tiny", "sweep=tpe", *one, hydra=True))


def test_a_list_in_brackets_is_one_value():
    assert list(composed("evaluation.splits=[validation,test]").evaluation.splits) == ["validation", "test"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["seed=x"], ["seed"]),
        (["-m", "seed=1,x"], ["seed"]),
        (["-m", "optim.lr=1,-1"], ["optim.lr"]),
        (["task=evaluate", "run=nowhere"], ["nowhere"]),
        (["task=predict", "input=nowhere.txt"], ["nowhere.txt"]),
        (["hardware=4090", "provider=vast", "provider.dry_run=true"], ["VAST_API_KEY"]),
        (["-m", "hydra.run.dir=here", "seed=1,2"], ["hydra.sweep.dir"]),
        (["-m", "hydra.sweep.subdir=same", "seed=1,2"], ["hydra.sweep.subdir", "same"]),
        (["-m", "hydra.sweeper.direction=minimize", "seed=1,2"], ["sweep.direction=maximize"]),
        (["-m", "sweep=tpe", "task=evaluate", "run=x", "seed=1,2"], ["evaluation.splits=[validation]"]),
        (["task=evaluate", "run=x", "evaluation.splits=[]"], ["evaluation.splits=[test]"]),
        (["-m", "sweep=asha", "trainer.validations=1", "optim.lr=interval(1e-4,1e-2)"], ["trainer.validations=2"]),
        (["-m", "sweep=random", "name=interval(1,2)"], ["name holds no number"]),
        (["--cfg", "job", "-m", "seed=1,2"], ["--cfg shows the config of one job", "leave -m out"]),
        (["sweep.metric=test/rougeL"], ["never searched", "validation/rougeL"]),
        (["sweep.metric=validation/rougel"], ["did you mean validation/rougeL?", "validation/loss"]),
        (["sweep.direction=minimize"], ["contradicts", "higher is better"]),
        (["sweep.metric=validation/loss", "sweep.direction=maximize"], ["contradicts", "lower is better"]),
        (["sweep.direction=up"], ["maximize"]),
    ],
)
def test_a_refused_command_leaves_no_folder(arguments, words, tmp_path):
    sentence = refused(*arguments, cwd=tmp_path)
    for word in words:
        assert word in sentence


def test_a_refused_command_leaves_what_was_there(tmp_path):
    kept = tmp_path / "mine" / "kept"
    kept.mkdir(parents=True)
    refused("-m", "seed=1,x", f"hydra.sweep.dir={tmp_path / 'mine'}", cwd=tmp_path)
    assert kept.is_dir()
    assert not (tmp_path / "mine" / "multirun.yaml").exists()


@pytest.mark.parametrize(
    ("metric", "direction"),
    [("validation/rougeL", "maximize"), ("validation/loss", "minimize"), ("train/tokens_per_second", "maximize")],
)
def test_the_direction_follows_the_metric(metric, direction):
    config = composed(f"sweep.metric={metric}", hydra=True)
    assert (config.sweep.direction, config.hydra.sweeper.direction) == (direction, direction)
    assert direction_of(metric) == direction


# --------------------------------------------------------------------------- what runs
@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("sweeps") / "corpus")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, corpus):
    """Two jobs that are not evaluated, of which the second is far better."""
    home = tmp_path_factory.mktemp("sweep")
    settings = ["trainer.max_steps=8", "evaluation.splits=[]", f"hydra.sweep.dir={home / 'out'}"]
    return home / "out", summarizer("-m", *TINY, *corpus, *settings, "optim.lr=1e-6,3e-3", cwd=home).stdout


def metrics_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.slow
@pytest.mark.turns(3)
def test_a_sweep_without_splits_evaluates_only_its_best_job_on_test(sweep):
    folder, output = sweep
    values = [metrics_of(folder / number)["validation/rougeL"] for number in "01"]
    assert values[1] > values[0]
    assert not [key for number in "01" for key in metrics_of(folder / number) if key.startswith("test/")]
    assert "tokenizing 12 documents of test" not in output.split("2 jobs by")[0]
    best = metrics_of(folder / "best")
    assert best["test/rougeL"] > 0
    assert OmegaConf.load(folder / "best" / "config.yaml").run == str(folder / "1")
    table = output.split("2 jobs by validation/rougeL (maximize), best first")[1].partition("Best: job 1")[0]
    rows = [line.split()[:3] for line in table.splitlines() if line[:1].isdigit()]
    assert rows == [["1", "0.003", f"{values[1]:.4g}"], ["0", "1e-06", f"{values[0]:.4g}"]]
    card = (folder / "1" / "model" / "README.md").read_text()
    assert "validation rows" in card
    assert "(0.00 to 0.00)" not in card


@pytest.mark.slow
@pytest.mark.turns(3)
def test_the_known_names_of_metrics_are_those_of_a_training(sweep):
    logged = set(metrics_of(sweep[0] / "1"))
    known = {*measured_at_validation(), *TRAINING, OBJECTIVE}
    assert logged <= known
    assert logged >= known - {"train/mfu", "train/memory_gib"}  # those of a card


@pytest.mark.slow
@pytest.mark.turns(3)
def test_what_is_said_of_validation_is_said_of_the_best_checkpoint(corpus, tmp_path):
    # a rate at which a later validation is worse than an earlier one
    settings = ["trainer.max_steps=40", "trainer.validations=8", "optim.lr=0.3", "callbacks.monitor=validation/rougeL"]
    done = summarizer(*TINY, *corpus, *settings, "callbacks.mode=max", "evaluation.splits=[]", cwd=tmp_path)
    folder = job_folder(done)
    with open(next(folder.rglob("metrics.csv"))) as file:
        scores = [float(row["validation/rougeL"]) for row in csv.DictReader(file) if row.get("validation/rougeL")]
    assert scores[-1] < max(scores)
    assert metrics_of(folder)["validation/rougeL"] == pytest.approx(max(scores), rel=1e-4)


@pytest.mark.slow
@pytest.mark.turns(3)
def test_a_search_finds_the_job_with_the_best_validation_score(corpus, tmp_path):
    settings = ["trainer.max_steps=4", "evaluation.splits=[]", f"hydra.sweep.dir={tmp_path / 'out'}"]
    search = ["sweep=tpe", "sweep.n_trials=3", "optim.lr=choice(1e-7,3e-3,1e-6)"]
    output = summarizer("-m", *TINY, *corpus, *settings, *search, cwd=tmp_path).stdout
    rows = list(csv.DictReader((tmp_path / "out" / "sweep.csv").open()))
    values = [metrics_of(Path(row["folder"]))["validation/rougeL"] for row in rows]
    assert [float(row["validation/rougeL"]) for row in rows] == pytest.approx(values)
    assert values == sorted(values, reverse=True)
    best = OmegaConf.load(tmp_path / "out" / "best" / "config.yaml").run
    assert best == rows[0]["folder"]
    # the command that is printed for it runs it again, alone
    command = [word for word in shlex.split(output.partition("Best: job ")[2].splitlines()[1]) if "=" in word]
    assert not [word for word in command if word.startswith("sweep")]
    assert not [word for word in OmegaConf.load(Path(rows[0]["folder"]) / "overrides.yaml") if word.startswith("sweep")]
    again = metrics_of(job_folder(summarizer(*command, cwd=tmp_path)))
    assert again["validation/rougeL"] == values[0]


@pytest.mark.slow
@pytest.mark.turns(3)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_says_what_is_done_and_the_same_command_continues_it(number, tmp_path):
    corpus = write_corpus(tmp_path / "corpus", train=480)  # long enough for a signal to arrive in the training
    out = tmp_path / "out"
    settings = ["trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.validations=1"]
    command = ["-m", *TINY, *corpus, *settings, "evaluation.splits=[]", "seed=0,1,2", f"hydra.sweep.dir={out}"]
    process = start(*command, cwd=tmp_path)
    wait_for_step(out / "1", 3, process)
    process.signal(number)
    assert process.wait() == 130
    output = process.output
    assert "Jobs: done 0; interrupted 1; not started 2." in output
    assert "Error" not in output
    assert "Traceback" not in output
    assert json.loads((out / "1" / "status.json").read_text())["state"] == "interrupted"
    assert not (out / "2").exists()
    printed = shlex.split(output.split("Continue (")[1].splitlines()[1])
    again = printed[printed.index("-m", 2 if printed[0] == "python" else 1) :]
    assert f"hydra.sweep.dir={out}" in again
    before = (out / "0" / "metrics.json").stat().st_mtime_ns
    summarizer(*again, cwd=tmp_path)
    assert (out / "0" / "metrics.json").stat().st_mtime_ns == before
    assert "continuing from step-" in (out / "1" / "console.log").read_text()
    assert all((out / job / "metrics.json").exists() for job in ("0", "1", "2", "best"))


@pytest.mark.parametrize("cause", [KeyboardInterrupt, SIGTERMException])
def test_what_lightning_makes_of_a_signal_outside_its_steps_ends_a_sweep_too(cause, monkeypatch, tmp_path):
    class Stopped(BoringModel):
        def setup(self, stage):
            raise cause

    def run_task(config):
        pl.Trainer(max_steps=1, logger=False, accelerator="cpu", default_root_dir=tmp_path).fit(Stopped())

    monkeypatch.setattr("summarizer.tasks.run_task", run_task)
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            job(composed())
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.turns(3)
def test_a_failed_job_of_a_sweep_is_named_at_once_and_stops_no_other(corpus, tmp_path):
    (tmp_path / "broken.jsonl").write_text('{"document": "a"}\n')
    train = [o.partition("=")[2] for o in corpus if o.startswith("data.train_file")]
    files = [o for o in corpus if not o.startswith("data.train_file")]
    lists = [
        f"data.train_file={tmp_path / 'broken.jsonl'},{train[0]}",
        "trainer.max_steps=2",
        f"hydra.sweep.dir={tmp_path / 'out'}",
    ]
    done = summarizer("-m", *TINY, *files, *lists, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert "job 0 failed: " in done.stdout.split("job 1: ")[0]
    assert (tmp_path / "out" / "1" / "metrics.json").exists()


@pytest.mark.slow
@pytest.mark.turns(3)
def test_predict_makes_no_folder_and_a_run_goes_where_hydra_run_dir_says(corpus, tmp_path):
    text = tmp_path / "article.txt"
    text.write_text("Foo is a fast parser for music. " * 200)  # cut, with a notice
    done = summarizer("task=predict", f"input={text}", "hardware=cpu", cwd=tmp_path)
    assert "longer than the model reads" in done.stdout
    assert not (tmp_path / "outputs").exists()
    done = summarizer(*TINY, *corpus, "trainer.max_steps=2", "hydra.run.dir=here/and there", cwd=tmp_path)
    assert job_folder(done) == tmp_path / "here" / "and there"
    assert (tmp_path / "here" / "and there" / "metrics.json").exists()
    assert not (tmp_path / "outputs").exists()

"""Which checkpoint a start continues from: the newest that is whole, of the same key, and of whatever version of the code."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import summarizer
from summarizer.errors import CheckpointError
from summarizer.run import Run
from summarizer.training.checkpoint_key import CheckpointKey
from summarizer.training.checkpointing import newest_good_checkpoint, step_of, validation_of
from summarizer.training.code_version import changed_code, code_version, digest_of

KEY = CheckpointKey(
    *({"setting": part} for part in ("model", "tokenizer", "train", "validation", "batches", "optimization"))
)


def write(run: Run, step: int, *, name: str | None = None, **facts) -> Path:
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    path = run.checkpoints / (name or f"step-{step:08d}.ckpt")
    stored = {
        "key": KEY.stored(), "code": code_version(), "best_step": None, "batches_done": 2 * step, "world_size": 1, "random_states": [],
        "metrics": {"validation/loss": float(step), "train/loss": 9.0}, "stopped_early": False, "steps": step, "seconds": 10.0 * step,
    } | facts  # fmt: skip
    torch.save(
        {
            "summarizer": stored,
            "global_step": step,
            "state_dict": {"w": torch.ones(2) * step},
            "callbacks": {"c": step},
        },
        path,
    )
    return path


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "job")


def test_a_folder_without_checkpoints_begins_anew(run):
    assert newest_good_checkpoint(run, KEY) is None


def test_the_newest_is_continued_with_all_that_it_knows(run):
    write(run, 4)
    newest = write(run, 12)
    write(run, 8)
    found = newest_good_checkpoint(run, KEY)
    assert (found.path, found.steps, found.batches_done, found.seconds) == (newest, 12, 24, 120.0)
    assert (found.metrics["train/loss"], found.stopped_early, found.callbacks) == (9.0, False, {"c": 12})
    assert (step_of(newest), validation_of(newest)) == (12, {"validation/loss": 12.0})


def test_a_damaged_one_is_passed_over_and_none_at_all_is_an_error(run, caplog):
    good, damaged = write(run, 4), write(run, 8)
    damaged.write_bytes(damaged.read_bytes()[:300])
    assert newest_good_checkpoint(run, KEY).path == good
    assert "damaged" in caplog.text
    assert step_of(damaged) == -1
    good.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        newest_good_checkpoint(run, KEY)


def test_one_of_another_key_number_of_devices_or_none_is_refused(run):
    path = write(run, 4)
    with pytest.raises(CheckpointError, match="setting train -> other"):
        newest_good_checkpoint(run, replace(KEY, train={"setting": "other"}))
    with pytest.raises(CheckpointError, match=r"written on 1 devices, but trainer\.devices=2"):
        newest_good_checkpoint(run, KEY, world_size=2)
    content = torch.load(path)
    del content["summarizer"]["key"]
    torch.save(content, path)
    with pytest.raises(CheckpointError, match="earlier version"):
        newest_good_checkpoint(run, KEY)


def test_one_whose_best_is_lost_is_passed_over_unless_its_step_is_there(run, caplog):
    write(run, 4)
    write(run, 8, best_step=6)
    assert newest_good_checkpoint(run, KEY).steps == 4
    assert "best checkpoint so far, of step 6" in caplog.text
    same = write(run, 6)
    assert newest_good_checkpoint(run, KEY).steps == 8
    assert run.best_checkpoint.read_bytes() == same.read_bytes()
    write(run, 5, name=run.best_checkpoint.name)  # an earlier best is not the one, a later one serves as well
    same.unlink()
    assert newest_good_checkpoint(run, KEY).steps == 4
    write(run, 7, name=run.best_checkpoint.name)
    assert newest_good_checkpoint(run, KEY).steps == 8


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ({**code_version(), "code": "0123456789ab"}, f"code 0123456789ab -> {code_version()['code']}"),
        ({**code_version(), "torch": "2.0"}, f"torch 2.0 -> {code_version()['torch']}"),
        ({}, f"code unknown -> {code_version()['code']}"),
    ],
)
def test_another_version_of_the_code_is_named_in_one_line_and_continued(run, caplog, code, named):
    write(run, 4, code=code)
    assert newest_good_checkpoint(run, KEY, told=True).steps == 4
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(said) == 1
    assert named in said[0]
    assert "can differ" in said[0]
    assert "\n" not in said[0]


def test_the_same_version_is_not_spoken_of_and_is_plain_json(run, caplog):
    write(run, 4)
    assert newest_good_checkpoint(run, KEY, told=True).steps == 4
    assert caplog.text == ""
    assert changed_code(json.loads(json.dumps(code_version())), code_version()) is None


def test_the_version_is_that_of_the_files_that_compute_wherever_they_lie(tmp_path):
    package = Path(summarizer.__file__).parent
    copy = tmp_path / "elsewhere"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("shipped", "*.pyc"))
    assert digest_of(copy) == code_version()["code"]
    (copy / "report" / "page.py").write_text("")
    assert digest_of(copy) == code_version()["code"]
    module = copy / "training" / "module.py"
    module.write_bytes(module.read_bytes().replace(b"\n", b"\r\n"))
    assert digest_of(copy) == code_version()["code"]
    module.write_text(module.read_text() + "# another\n")
    assert digest_of(copy) != code_version()["code"]

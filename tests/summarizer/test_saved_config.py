"""What a rented machine wrote into a job's folder is read as its results, never as settings of this side."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from summarizer.errors import CheckpointError, ModelError
from summarizer.models.loading import load_trained
from summarizer.paths import shipped_model_dir
from summarizer.run import Run
from summarizer.tasks import settle
from tests.summarizer.composition import composed


def saved(folder: Path, **changes: object) -> Path:
    """A job's folder whose config was changed on the way."""
    config = OmegaConf.create(OmegaConf.to_container(composed("optim.lr=0.123"), resolve=True, enum_to_str=True))
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=False))
    return folder


@pytest.mark.parametrize("choice", ["resume", "run"])
def test_how_it_learned_is_taken_over_and_where_things_go_is_not(tmp_path: Path, choice: str):
    folder = saved(
        tmp_path, export__push_to_hub="attacker/x", export__private=False, logger__wandb=True, logger__entity="attacker",
        data__cache_dir="/tmp/attacker", model__trust_remote_code=True, data__document_column="text",
    )  # fmt: skip
    arguments = [f"{choice}={folder}", *(["task=evaluate"] if choice == "run" else [])]
    settled = settle(composed(*arguments), arguments)
    assert settled.optim.lr == 0.123
    assert settled.data.document_column == "text"
    assert settled.export.push_to_hub is None
    assert settled.export.private
    assert not settled.logger.wandb
    assert settled.logger.entity is None
    assert settled.data.cache_dir is None
    assert not settled.model.trust_remote_code


def test_what_this_command_says_holds(tmp_path: Path):
    arguments = [f"resume={saved(tmp_path)}", "logger=wandb", "data.cache_dir=here", "export.push_to_hub=me/mine"]
    settled = settle(composed(*arguments), arguments)
    assert settled.logger.wandb
    assert settled.data.cache_dir == "here"
    assert settled.export.push_to_hub == "me/mine"
    assert settled.optim.lr == 0.123


@pytest.mark.parametrize("value", ["${oc.env:MY_SECRET}", "a${oc.env:MY_SECRET}", "${optim.lr}"])
def test_an_interpolation_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str):
    monkeypatch.setenv("MY_SECRET", "s3cret")
    saved(tmp_path, name=value)
    with pytest.raises(CheckpointError, match="holds an interpolation") as caught:
        Run(tmp_path).load_config()
    assert "s3cret" not in str(caught.value)


def spoiled(folder: Path, tokenizer: bool = False, pickled: bool = False) -> Path:
    """The shipped model with something in it that is not data."""
    import json
    import shutil

    shutil.copytree(shipped_model_dir(), folder)
    (folder / "evil.py").write_text(f"open({str(folder / 'OWNED')!r}, 'w')\nclass Evil: pass\n")
    name = "tokenizer_config.json" if tokenizer else "config.json"
    content = json.loads((folder / name).read_text())
    if tokenizer:
        content |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    elif not pickled:
        content |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForSeq2SeqLM": "evil.Evil"}}
    (folder / name).write_text(json.dumps(content))
    if pickled:
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"tokenizer": True}, {}, {"pickled": True}])
def test_code_that_came_with_a_model_is_neither_run_nor_asked_about(tmp_path: Path, how: dict[str, bool], monkeypatch):
    asked = []
    monkeypatch.setattr("builtins.input", lambda *_: asked.append(1) or "y")
    folder = spoiled(tmp_path / "model", **how)
    try:
        load_trained(folder)
        loaded = True
    except ModelError:
        loaded = False
    assert asked == []
    assert not (folder / "OWNED").exists()
    assert not (loaded and how.get("pickled"))

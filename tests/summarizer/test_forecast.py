"""Hours expected before anything is rented: figures, sizes of the data, and this user's own past jobs."""

from __future__ import annotations

import json

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from summarizer.application import register
from summarizer.forecast import hours
from tests.summarizer.jobs import ROOT


def config(*overrides: str) -> DictConfig:
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        return compose("config", overrides=list(overrides))


def test_a_slower_card_a_larger_model_and_more_data_take_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = hours(config("hardware=h100", "model=t5_base", "data=cnn_dailymail"))
    assert base is not None
    assert hours(config("hardware='4090'", "model=t5_base", "data=cnn_dailymail")) > base
    assert hours(config("hardware=h100", "model=bart_large", "data=cnn_dailymail")) != base
    more = config("hardware=h100", "model=t5_base", "data=cnn_dailymail", "data.max_train_samples=null")
    assert hours(more) > 2 * base
    assert hours(config("hardware=h100", "model=t5_base", "data=cnn_dailymail", "trainer.max_steps=10")) < base


@pytest.mark.parametrize("model", ["tiny", "t5_small", "t5_base", "flan_t5_base", "bart_base", "bart_large", "pegasus"])
@pytest.mark.parametrize("data", ["debsum", "docstrings", "cnn_dailymail", "xsum", "samsum", "multi_news", "billsum"])
def test_every_measured_model_on_every_known_corpus_has_one(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 0 < hours(config("hardware=a100", f"model={model}", f"data={data}")) < 200


@pytest.mark.parametrize(
    "overrides",
    [
        ("hardware=cpu",),
        ("hardware=h100", "hardware.accelerator=cpu"),
        ("hardware=h100", "task=evaluate"),
        ("hardware=h100", "data=files"),
        ("hardware=h100", "model=llm_lora"),
    ],
)
def test_what_is_not_known_is_not_guessed(overrides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hours(config(*overrides)) is None


def test_a_past_job_of_the_same_model_on_the_same_card_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = config("hardware=a100", "model=t5_base", "data=xsum")
    before = hours(wanted)
    folder = tmp_path / "outputs" / wanted.name / "2026-01-01_00-00-00" / "0"
    folder.mkdir(parents=True)
    then = {"model": {"name": "t5_base"}, "hardware": {"gpu": "A100 40GB"}, "trainer": {"devices": 1}}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    (folder / "provenance.json").write_text(json.dumps({"machine": {"accelerator": "cuda"}}))
    (folder / "metrics.json").write_text(json.dumps({"train/tokens_per_second": 10_000.0}))
    assert hours(wanted) > 3 * before
    assert hours(config("hardware=h100", "model=t5_base", "data=xsum")) < before

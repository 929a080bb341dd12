"""Hours expected before anything is rented: figures, sizes of the data, and this user's own past jobs."""

from __future__ import annotations

import json

import pytest
from omegaconf import OmegaConf

from summarizer.forecast import hours
from tests.summarizer.composition import composed


def test_a_slower_card_a_larger_model_and_more_data_take_longer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = hours(composed("hardware=h100", "model=t5_base", "data=cnn_dailymail"))
    assert base is not None
    assert hours(composed("hardware='4090'", "model=t5_base", "data=cnn_dailymail")) > base
    assert hours(composed("hardware=h100", "model=bart_large", "data=cnn_dailymail")) != base
    more = composed("hardware=h100", "model=t5_base", "data=cnn_dailymail", "data.max_train_samples=null")
    assert hours(more) > 2 * base
    assert hours(composed("hardware=h100", "model=t5_base", "data=cnn_dailymail", "trainer.max_steps=10")) < base


@pytest.mark.parametrize("model", ["tiny", "t5_small", "t5_base", "flan_t5_base", "bart_base", "bart_large", "pegasus"])
@pytest.mark.parametrize("data", ["debsum", "docstrings", "cnn_dailymail", "xsum", "samsum", "multi_news", "billsum"])
def test_every_measured_model_on_every_known_corpus_has_one(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert 0 < hours(composed("hardware=a100", f"model={model}", f"data={data}")) < 200


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
    assert hours(composed(*overrides)) is None


def test_a_past_job_of_the_same_model_on_the_same_card_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = composed("hardware=a100", "model=t5_base", "data=xsum")
    before = hours(wanted)
    folder = tmp_path / "outputs" / wanted.name / "2026-01-01_00-00-00" / "0"
    folder.mkdir(parents=True)
    then = {"model": {"name": "t5_base"}, "hardware": {"gpu": "A100 40GB"}, "trainer": {"devices": 1}}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    (folder / "provenance.json").write_text(json.dumps({"machine": {"accelerator": "cuda"}}))
    (folder / "metrics.json").write_text(json.dumps({"train/tokens_per_second": 10_000.0}))
    assert hours(wanted) > 3 * before
    assert hours(composed("hardware=h100", "model=t5_base", "data=xsum")) < before

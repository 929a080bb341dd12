"""Hours expected before anything is rented: figures, sizes of the data, and this user's own past jobs."""

from __future__ import annotations

import json
import os

import pytest
from omegaconf import OmegaConf

from summarizer.forecast import hours, is_processor, time_text
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
        ("hardware=cpu", "model=t5_small"),
        ("hardware=cpu", "data=files"),
        ("hardware=cpu", "task=evaluate"),
        ("hardware=h100", "hardware.accelerator=cpu", "model=t5_base"),
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


KNOWN = [
    "hardware=h100", "model=t5_base", "data=cnn_dailymail", "data.max_train_samples=null", "data.max_test_samples=null",
    "data.expected.train_pairs=1000000", "data.expected.test_pairs=2000", "data.expected.document_words=100",
    "data.expected.summary_words=10", "trainer.max_epochs=2", "trainer.validations=5", "trainer.validation_samples=200",
]  # fmt: skip
TRAINING = 2_000_000 * (133 + 13.3) / 445_300
"""Seconds, by docs/performance.md; an H100 multiplies as an H200 does."""
WRITING = (5 * 200 + 2000) / 20.0


@pytest.mark.parametrize(
    ("overrides", "seconds"),
    [
        ([], 120 + TRAINING + WRITING),
        (["trainer.devices=8", "hardware.devices=8"], 120 + (TRAINING + WRITING) / 8),
        (["data.max_train_samples=500000"], 120 + TRAINING / 2 + WRITING),
        (["data.max_train_samples=5000000"], 120 + TRAINING + WRITING),
        (["trainer.max_epochs=3"], 120 + 1.5 * TRAINING + WRITING),
        (["trainer.max_steps=100", "optim.effective_batch_size=64"], 120 + 6400 * 146.3 / 445_300 + WRITING),
        (["data.max_test_samples=500"], 120 + TRAINING + 1500 / 20),
        (["trainer.validation_samples=null"], 120 + TRAINING + (5 * 1000 + 2000) / 20),
        (["data.expected.test_pairs=null"], 120 + TRAINING + 1000 / 20),
        (["model.max_source_tokens=100", "model.max_target_tokens=10"], 120 + TRAINING * 110 / 146.3 + WRITING),
        # nothing is known of the words: the longest there may be
        (["data.expected.document_words=null", "model.max_source_tokens=100"], 120 + TRAINING * 228 / 146.3 + WRITING),
        (["model=flan_t5_base"], 120 + 1.14 * (TRAINING + WRITING)),
        (["model=bart_base"], 120 + (TRAINING + WRITING) * 445_300 / 791_100),
        (["hardware=a100"], 120 + (TRAINING + WRITING) * 989 / 312),
    ],
)  # fmt: skip
def test_the_hours_are_those_of_the_figures(overrides, seconds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    target = ["model.max_target_tokens=128"] * (not any("max_target" in text for text in overrides))
    assert hours(composed(*KNOWN, *target, *overrides)) == pytest.approx(seconds / 3600, rel=2e-3)


def past(tmp_path, number, rate, *, model="t5_base", gpu="H100", accelerator="cuda", **devices):
    folder = tmp_path / "outputs" / "summarizer" / f"2026-01-{number:02d}" / "0"
    folder.mkdir(parents=True)
    then = {
        "model": {"name": model},
        "hardware": {"gpu": gpu, "nodes": devices.get("nodes", 1)},
        "trainer": {"devices": devices.get("devices", 1)},
    }
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    (folder / "provenance.json").write_text(json.dumps({"machine": {"accelerator": accelerator}}))
    (folder / "metrics.json").write_text(json.dumps({"train/tokens_per_second": rate}))
    os.utime(folder / "metrics.json", (1000 + number, 1000 + number))


def test_the_median_of_the_latest_jobs_a_card_decides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = composed(*KNOWN, "model.max_target_tokens=128")
    rate = 445_300
    for number, earlier in enumerate([rate, 2 * rate, 50 * rate], 1):
        past(tmp_path, number, earlier)
    past(tmp_path, 4, 8 * 2 * rate, devices=4, nodes=2)  # 2 x a card
    past(tmp_path, 5, 2 * rate)
    assert hours(wanted) == pytest.approx((120 + (TRAINING + WRITING) / 2) / 3600)
    for number, other in enumerate([{"model": "tiny"}, {"gpu": "A100"}, {"accelerator": "cpu"}], 6):
        past(tmp_path, number, 1.0, **other)
    (tmp_path / "outputs" / "summarizer" / "2026-01-05" / "0" / "provenance.json").write_text("{")
    assert hours(wanted) == pytest.approx((120 + (TRAINING + WRITING) / 2) / 3600)
    for number in range(9, 29):  # twenty later ones push the others out
        past(tmp_path, number, 4 * rate)
    assert hours(wanted) == pytest.approx((120 + (TRAINING + WRITING) / 4) / 3600)


MINUTES = {
    "tiny": 29.1, "t5_small": 7.8, "t5_base": 30.1, "flan_t5_base": 34.0, "bart_base": 17.8, "bart_large": 58.9, "pegasus": 77.8,
}  # fmt: skip
"""Of XSum on one H200, by the figures of docs/performance.md: 50,000 documents an epoch, some 600 tokens each."""


@pytest.mark.parametrize("model", MINUTES)
def test_a_forecast_is_what_the_measured_figures_make_of_it(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hours(composed("hardware=h200", f"model={model}", "data=xsum")) * 60 == pytest.approx(
        MINUTES[model], rel=0.02
    )


def test_a_forecast_on_a_processor_counts_start_training_and_summaries(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("summarizer.forecast.usable_cores", lambda: 2)
    few = ("hardware=cpu", "trainer.validations=1", "trainer.validation_samples=100", "data.max_train_samples=1000")
    short = hours(composed(*few, "data.max_test_samples=100")) * 3600
    # 4 epochs of 1,000 documents of 92 tokens at 30,000 a second, and 200 summaries at 24 a second
    assert short == pytest.approx(60 + 4000 * 91.8 / 30_000 + 200 / 24, rel=0.02)
    assert hours(composed(*few, "data.max_test_samples=1300")) * 3600 - short == pytest.approx(1200 / 24, rel=0.02)


def test_the_default_job_on_a_processor_takes_minutes_and_longer_in_float32_or_on_fewer_cores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("summarizer.forecast.usable_cores", lambda: 2)
    two = hours(composed("hardware=cpu"))
    assert 2 / 60 < two < 15 / 60
    assert hours(composed("hardware=cpu", "hardware.precision=32-true")) > 1.5 * two
    monkeypatch.setattr("summarizer.forecast.usable_cores", lambda: 1)
    assert hours(composed("hardware=cpu")) > 1.5 * two


def test_a_past_job_on_so_many_cores_decides_for_a_processor(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("summarizer.forecast.usable_cores", lambda: 2)
    wanted = composed("hardware=cpu")
    before = hours(wanted)
    folder = tmp_path / "outputs" / wanted.name / "2026-01-01_00-00-00" / "0"
    folder.mkdir(parents=True)
    then = {"model": {"name": "tiny"}, "hardware": {"gpu": None}, "trainer": {"devices": 1}}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    (folder / "metrics.json").write_text(json.dumps({"train/tokens_per_second": 5_000.0}))
    machine = {"accelerator": "cpu", "cores": 2}
    (folder / "provenance.json").write_text(json.dumps({"machine": machine}))
    assert hours(wanted) > 3 * before
    (folder / "provenance.json").write_text(json.dumps({"machine": machine | {"cores": 64}}))
    assert hours(wanted) == before


def test_without_a_driver_of_a_card_a_job_for_whatever_is_here_is_one_for_the_processor(monkeypatch, tmp_path):
    job, rented = composed("hardware=auto"), composed("hardware=h100")
    monkeypatch.setattr("summarizer.forecast.NVIDIA_DRIVER", tmp_path / "version")
    monkeypatch.setattr("summarizer.forecast.sys.platform", "linux")
    assert is_processor(job)
    assert not is_processor(rented)
    (tmp_path / "version").touch()
    assert not is_processor(job)
    monkeypatch.setattr("summarizer.forecast.sys.platform", "darwin")  # it may have an Apple GPU
    (tmp_path / "version").unlink()
    assert not is_processor(job)


def test_a_time_is_told_in_minutes_then_in_hours():
    assert time_text(0.2) == "about 12 min"
    assert time_text(1.4) == "about 84 min"
    assert time_text(1.5) == "about 1.5 h"
    assert time_text(None) == "not known before the first steps"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "provenance.json"])
@pytest.mark.parametrize("text", ["{]", "[]", "", "null", '{"machine": 3, "model": 3}', "\x00\xff"])
def test_a_past_job_that_is_damaged_changes_no_forecast(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("summarizer.forecast.usable_cores", lambda: 2)
    wanted = composed("hardware=cpu")
    before = hours(wanted)
    folder = tmp_path / "outputs" / wanted.name / "2026-01-01_00-00-00" / "0"
    folder.mkdir(parents=True)
    then = {"model": {"name": "tiny"}, "hardware": {"gpu": None}, "trainer": {"devices": 1}}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(then)))
    (folder / "metrics.json").write_text(json.dumps({"train/tokens_per_second": 5_000.0}))
    (folder / "provenance.json").write_text(json.dumps({"machine": {"accelerator": "cpu", "cores": 2}}))
    assert hours(wanted) != before
    (folder / name).write_text(text)
    assert hours(wanted) == before

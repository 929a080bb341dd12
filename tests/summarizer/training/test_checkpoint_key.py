"""What a checkpoint depends on is named in its key; what may change without harm is not in it."""

import json
import shlex

import pytest

from summarizer.tasks.prepare import prepare_data
from summarizer.training.checkpoint_key import checkpoint_key, refusal
from tests.summarizer.composition import composed
from tests.summarizer.jobs import TINY, write_corpus


@pytest.fixture
def key_of(tmp_path, monkeypatch):
    monkeypatch.setenv("SUMMARIZER_CACHE", str(tmp_path / "cache"))
    corpus = write_corpus(tmp_path / "corpus")

    def key(*arguments):
        config = composed(*TINY, *corpus, *arguments)
        prepared = prepare_data(config)
        return checkpoint_key(config, prepared.splits, prepared.tokenizer)

    return key


@pytest.mark.parametrize(
    "harmless",
    [
        ["logger=all", "logger.sample_predictions=2"], ["trainer.threads=2", "hardware.workers=2"], ["optim.fused=false"],
        ["export.push_to_hub=me/model"], ["evaluation.splits=[validation]", "generation=fast"], ["name=other"],
        ["trainer.checkpoint_every_n_steps=7", "trainer.log_every_n_steps=3", "callbacks.progress=true"],
        ["hardware.compile=true", "hardware.precision=32-true", "hardware.generation_tokens=99"],
        ["trainer.packing=never"], ["callbacks.early_stopping_patience=2"], ["data.license=mine", "data.max_test_samples=3"],
    ],
)  # fmt: skip
def test_what_may_change_is_not_in_the_key(key_of, harmless):
    stored = json.loads(json.dumps(key_of().stored()))
    assert key_of(*harmless).changes_since(stored) == {}


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("model.shape.d_ff=65", "model"), ("model.dropout=0.2", "model"), ("model.shape.vocab_size=350", "tokenizer"),
        ("data.max_train_samples=50", "train"), ("model.max_source_tokens=64", "train"), ("model.source_prefix='a: '", "train"),
        ("data.streaming=true", "train"), ("data.max_validation_samples=5", "validation"), ("callbacks.mode=max", "validation"),
        ("seed=1", "batches"), ("trainer.max_epochs=9", "batches"), ("trainer.batch_size=4", "batches"),
        ("hardware.tokens_per_step=4096", "batches"), ("trainer.packing=always", "batches"),
        ("optim.effective_batch_size=16", "batches"), ("optim.lr=1", "optimization"), ("optim.ema_decay=0.5", "optimization"),
        ("scheduler=cosine", "optimization"), ("trainer.max_steps=7", "optimization"), ("trainer.validations=2", "optimization"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_depends_on_is_named(key_of, tmp_path, setting, part):
    stored = json.loads(json.dumps(key_of().stored()))
    changes = key_of(setting).changes_since(stored)
    assert part in changes
    sentence = refusal(changes, tmp_path / "step-00000001.ckpt", tmp_path / "job", {})
    name = setting.partition("=")[0]
    if part in ("tokenizer",) or name.startswith("data."):
        assert f"the {part}{'' if part == 'tokenizer' else ' data'} changed" in sentence
    elif name != "scheduler":
        assert f"{name} " in sentence
    assert "new run in another folder" in sentence


@pytest.mark.parametrize("streaming", ["false", "true"])
def test_the_same_rows_elsewhere_are_the_same_data_and_one_row_more_is_not(key_of, tmp_path, streaming):
    stored = key_of(f"data.streaming={streaming}").stored()
    (tmp_path / "corpus").rename(tmp_path / "moved")
    elsewhere = [f"data.{split}_file={tmp_path}/moved/{split}.jsonl" for split in ("train", "validation", "test")]
    assert key_of(*elsewhere, f"data.streaming={streaming}").changes_since(stored) == {}
    with (tmp_path / "moved" / "train.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "document": "Zebras graze.", "summary": "zebras"}) + "\n")
    changes = key_of(*elsewhere, f"data.streaming={streaming}").changes_since(stored)
    assert "fingerprint" in changes["train"]


def test_summaries_that_choose_the_best_checkpoint_are_in_its_key(key_of):
    by_rouge = ["callbacks.monitor=validation/rougeL", "callbacks.mode=max"]
    stored = key_of(*by_rouge).stored()
    assert "generation.num_beams" in key_of(*by_rouge, "generation.num_beams=5").changes_since(stored)["validation"]
    assert (
        "trainer.validation_samples"
        in key_of(*by_rouge, "trainer.validation_samples=3").changes_since(stored)["validation"]
    )
    assert key_of("generation.num_beams=5").changes_since(key_of().stored()) == {}


def test_the_way_out_gives_the_settings_that_the_other_hardware_would_change(key_of, tmp_path):
    stored = key_of("hardware.tokens_per_step=131072", "trainer.packing=always", "model.source_prefix='it: '").stored()
    sentence = refusal(key_of().changes_since(stored), tmp_path / "step-1.ckpt", tmp_path / "a job", {})
    added = shlex.split(sentence.partition("or add ")[2].partition("), or start")[0])
    assert f"resume='{tmp_path}/a job'" in sentence
    assert key_of(*added).changes_since(stored) == {}

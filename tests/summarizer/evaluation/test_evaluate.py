"""One evaluation as a job sees it: figures, rows on disk, and the tables a person reads."""

from __future__ import annotations

import builtins
import io
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from rich.console import Console

from summarizer.errors import ConfigError, OutputError
from summarizer.evaluation.evaluate import bertscore_of, evaluate_split, score_split
from summarizer.evaluation.report import closing_report, opening_report
from summarizer.evaluation.rouge import ROUGE
from summarizer.evaluation.scoring import MEASURES
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.tokenizer import train_tokenizer
from summarizer.run import Run
from tests.summarizer.jobs import made_up_pairs


class Pairs:
    """A split held in memory."""

    def __init__(self, rows: list[dict[str, str]], tokenizer=None) -> None:
        self.rows, self.tokenizer = rows, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def source(self, i: int) -> np.ndarray:
        return np.asarray(self.tokenizer(self.rows[i]["document"])["input_ids"])

    def document(self, i: int) -> str:
        return self.rows[i]["document"]

    def summary(self, i: int) -> str:
        return self.rows[i]["summary"]

    def id(self, i: int) -> str:
        return self.rows[i]["id"]


def config(**evaluation):
    generation = {
        "num_beams": 2, "reranking": "none", "length_penalty": 1.0, "no_repeat_ngram_size": 2, "min_new_tokens": 1, "max_new_tokens": 8,
        "packing": "auto", "precision": "32-true",
    }  # fmt: skip
    measured = {"splits": ["test"], "bootstrap_samples": 200, "bertscore": False, "bertscore_model": None, **evaluation}
    return SimpleNamespace(
        generation=SimpleNamespace(**generation), evaluation=SimpleNamespace(**measured),
        hardware=SimpleNamespace(generation_tokens=400), data=SimpleNamespace(cache_dir=None), seed=1,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SUMMARIZER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def trained():
    rows = made_up_pairs(12, seed=0)
    tokenizer = train_tokenizer([row["document"] for row in rows], 300)
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_ff": 32, "num_heads": 2, "max_target_positions": 16}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = CopyTransformerForConditionalGeneration(CopyTransformerConfig(vocab_size=len(tokenizer), **shape, **ids))
    return model.train(), tokenizer, Pairs(rows, tokenizer)


def test_every_row_is_summarized_once_in_order_and_the_model_stays_in_its_mode(trained) -> None:
    model, tokenizer, split = trained
    torch.manual_seed(7)
    report = evaluate_split(model, tokenizer, split, config(), name="test")
    assert model.training
    assert report.table["id"] == [row["id"] for row in split.rows]
    assert report.metrics["test/rows"] == 12
    again = evaluate_split(model, tokenizer, split, config(), name="test")
    assert report.table["summary"] == again.table["summary"], "dropout must be off"
    assert not any("</s>" in text or "<pad>" in text for text in report.table["summary"])


def test_metrics_are_a_flat_map_of_model_rules_intervals_and_text_figures() -> None:
    split = Pairs(made_up_pairs(40, seed=3))
    summaries = [row["summary"] if i % 2 else "nothing of it" for i, row in enumerate(split.rows)]
    metrics = score_split("test", split, summaries, config(), 1.0).metrics
    assert all(isinstance(value, float) and math.isfinite(value) for value in metrics.values())
    assert {f"test/{system}{key}" for system in ("", "lead1/", "lead3/", "is_a/", "oracle/") for key in ROUGE} <= set(
        metrics
    )
    assert metrics["test/rouge1"] == pytest.approx(50, abs=1)
    assert metrics["test/rougeL_low"] < metrics["test/rougeL"] < metrics["test/rougeL_high"]
    for name in ("summary_words", "novel_1gram", "novel_2gram", "repetition", "empty"):
        assert f"test/{name}" in metrics
    gain = metrics["test/rougeL"] - metrics["test/is_a/rougeL"]
    assert metrics["test/is_a/rougeL_gain_low"] < gain < metrics["test/is_a/rougeL_gain_high"]


def test_predictions_are_read_back_as_written(tmp_path: Path) -> None:
    split = Pairs(made_up_pairs(5, seed=3))
    report = score_split("test", split, ["a fast parser — ünïcode"] * 5, config(), 1.0)
    report.write(tmp_path / "predictions.parquet")
    table = parquet.read_table(tmp_path / "predictions.parquet")
    assert table.column_names == ["id", "document", "reference", "summary", *MEASURES]
    assert table["summary"].to_pylist() == ["a fast parser — ünïcode"] * 5
    assert 100 * np.mean(table["rougeL"].to_pylist()) == pytest.approx(report.metrics["test/rougeL"])


def test_a_folder_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    report = score_split("test", Pairs(made_up_pairs(2, seed=3)), ["a", "b"], config(), 1.0)
    with pytest.raises(OutputError, match="cannot be written"):
        report.write(tmp_path / "gone" / "predictions.parquet")


def test_bertscore_without_its_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments, **options):
        if name == "bert_score":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"summarizer\[bertscore\]"):
        bertscore_of(score_split("test", Pairs(made_up_pairs(2, seed=3)), ["a", "b"], config(), 1.0), None)


def job_config():
    names = {group: SimpleNamespace(name=name) for group, name in (("data", "debsum"), ("scheduler", "linear"))}
    return SimpleNamespace(
        model=SimpleNamespace(name="tiny", pretrained=False), hardware=SimpleNamespace(name="cpu", precision="32-true", nodes=1),
        trainer=SimpleNamespace(batch_size=16, devices=1, max_epochs=4), optim=SimpleNamespace(lr=0.0015), seed=0,
        evaluation=SimpleNamespace(splits=["test"]), **names,
    )  # fmt: skip


def test_the_opening_table_names_size_batch_and_length(capsys: pytest.CaptureFixture[str]) -> None:
    opening_report(
        job_config(), {"train": 21283, "test": 1354}, parameters=1_400_000, trained=400_000, accumulation=2, steps=1234,
        folder=Path("outputs/x/0"), hours=0.2,
    )  # fmt: skip
    said = capsys.readouterr().out
    assert "tiny (from scratch), 1.40 M parameters, 0.40 M of them trained" in said
    assert "up to 16 documents a device, 2 forward passes an optimizer step" in said
    assert "1,234 optimizer steps" in said
    assert "21,283 train" in said
    assert "about 12 min" in said
    assert "outputs/x/0" in said
    assert re.search(r"code +(commit [0-9a-f]{12}|version \d)", said)
    assert not set(said) & set("┃│\x1b"), "plain lines where nobody sees a terminal"


def test_the_closing_table_shows_the_model_above_the_rules_and_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path / "a folder")
    run.model.mkdir(parents=True)
    metrics = score_split("test", Pairs(made_up_pairs(9, seed=3)), ["a fast parser"] * 9, config(), 1.0).metrics
    closing_report(run, job_config(), metrics)
    lines = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(lines) if "this model" in line)
    assert f"{metrics['test/rougeL']:.2f}" in lines[first]
    assert '"X is a" rule' in " ".join(lines[first:])
    assert any("95 % interval" in line for line in lines)
    assert f"  python -m summarizer task=predict run='{run.folder}' input=-" in lines


def test_a_terminal_gets_a_drawn_table() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    opening_report(
        job_config(), {"train": 1}, parameters=1, trained=1, accumulation=1, steps=1, folder=Path("x"), console=console
    )
    assert "│" in console.file.getvalue()

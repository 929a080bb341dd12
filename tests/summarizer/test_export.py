"""A finished model's folder, without this project: what it does when it is asked for nothing, and what its card says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from summarizer.export import finish_model_folder
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.shipping import ship
from summarizer.paths import shipped_model_dir
from summarizer.run import Run
from tests.summarizer.composition import composed


def finished(folder: Path, *overrides: str, language: str | None = None) -> Run:
    config = composed("model=tiny", *overrides)
    torch.manual_seed(0)
    shape = {"vocab_size": 8000, "d_model": 16, "d_ff": 32, "num_heads": 2}
    model = CopyTransformerForConditionalGeneration(CopyTransformerConfig(**shape)).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(shipped_model_dir())
    run = Run(folder)
    metrics = {"test/rougeL": 1.0, "test/rougeL_low": 0.5, "test/rougeL_high": 1.5, "test/rows": 3.0}
    finish_model_folder(run, model, tokenizer, config, metrics, "debsum", language=language)
    return run


@pytest.mark.parametrize(("overrides", "beams"), [((), 16), (("generation=fast",), 1)])
def test_generate_searches_by_itself_as_the_run_did(tmp_path, overrides, beams):
    run = finished(tmp_path, *overrides)
    settings = json.loads((run.model / "generation_config.json").read_text())
    assert settings.get("num_beams", 1) == beams
    assert settings["no_repeat_ngram_size"] == 2
    model = AutoModelForSeq2SeqLM.from_pretrained(run.model)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    by_itself = model.generate(ids)
    told = model.generate(
        ids, num_beams=beams, no_repeat_ngram_size=2, min_new_tokens=3, max_new_tokens=32, length_penalty=0.8
    )
    assert torch.equal(by_itself, told)
    assert len(by_itself) == 1


@pytest.mark.parametrize("reranking", ["mbr", "none"])
def test_the_card_says_how_its_figures_were_written(tmp_path, reranking):
    card = (finished(tmp_path, f"generation.reranking={reranking}").model / "README.md").read_text()
    assert "as the code above does" in card
    assert ("minimum Bayes risk" in card) == (reranking == "mbr")
    assert "`trust_remote_code=True` runs them" in card
    assert "(0.50 to 1.50)" in card


@pytest.mark.parametrize(("language", "line"), [("en", "language: en\n"), (None, "")])
def test_the_card_names_a_language_only_where_the_data_has_a_known_one(tmp_path, language, line):
    card = (finished(tmp_path, language=language).model / "README.md").read_text()
    assert card.startswith(f"---\n{line}pipeline_tag: summarization\n")


def test_a_job_whose_metrics_name_a_tokenizer_can_be_shipped(tmp_path):
    run = finished(tmp_path / "job")
    run.write_metrics({"test/rougeL": 12.345678, "test/rouge_tokenizer": "unicode", "train/seconds": 1.0})
    ship(run.folder, tmp_path / "shipped")
    metrics = json.loads((tmp_path / "shipped" / "metrics.json").read_text())
    assert metrics == {"test/rougeL": 12.3457, "test/rouge_tokenizer": "unicode"}

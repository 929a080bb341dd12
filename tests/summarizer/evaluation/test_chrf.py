"""chrF beside ROUGE: sacrebleu's scores in every script, in the figures, the rows and the tables; and what makes scores mean nothing."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from sacrebleu.metrics.chrf import CHRF

from summarizer.evaluation.chrf import chrf
from summarizer.evaluation.evaluate import score_split
from summarizer.evaluation.report import closing_report
from summarizer.evaluation.words import notices
from summarizer.export import results_table
from summarizer.run import Run
from tests.summarizer.jobs import ROOT

TEXTS = {
    "English": ("a fast parser for music", "fast parsers for the music"),
    "Chinese": ("快速的音乐编辑器", "快速音乐编辑器"),
    "Arabic": ("محرر موسيقى سريع", "محرر الموسيقى السريع"),
    "Russian": ("быстрый редактор музыки", "быстрые редакторы музыки"),
    "Hindi": ("तेज़ संगीत संपादक", "संगीत का तेज़ संपादक"),
    "Thai": ("โปรแกรมแก้ไขเพลง", "โปรแกรมแก้ไขเพลงที่รวดเร็ว"),
}


class Split:
    def __init__(self, references: list[str]) -> None:
        self.references = references

    def __len__(self) -> int:
        return len(self.references)

    def document(self, i: int) -> str:
        return f"{self.references[i]}. {i}"

    def summary(self, i: int) -> str:
        return self.references[i]

    def id(self, i: int) -> str:
        return str(i)


@pytest.fixture
def config(tmp_path):
    measured = SimpleNamespace(bootstrap_samples=100, splits=["test"])
    return SimpleNamespace(evaluation=measured, data=SimpleNamespace(cache_dir=str(tmp_path)), seed=0)


@pytest.mark.parametrize("language", TEXTS)
def test_a_row_has_sacrebleu_s_score_whatever_its_script(language):
    prediction, reference = TEXTS[language]
    theirs = CHRF().corpus_score([prediction], [[reference]]).score
    assert 100 * chrf(prediction, reference) == pytest.approx(theirs, abs=1e-9)
    assert 20 < theirs < 90
    assert chrf(reference, reference) == 1
    assert chrf("", reference) == chrf(prediction, "") == 0


def test_a_known_value_is_the_one_that_sacrebleu_s_own_tests_hold():
    # of "ab" and "ac" one character of two is common, and no pair of theirs: (0.5 + 0) / 2
    assert chrf("ab", "ac") == pytest.approx(0.25)


def test_the_mean_its_interval_the_rows_and_the_tables_have_it(config, tmp_path, capsys):
    references = [reference for _, reference in TEXTS.values()]
    summaries = [prediction for prediction, _ in TEXTS.values()]
    report = score_split("test", Split(references), summaries, config, 1.0)
    rows = [CHRF().sentence_score(p, [r]).score for p, r in TEXTS.values()]
    assert [100 * value for value in report.table["chrf"]] == pytest.approx(rows)
    assert report.metrics["test/chrf"] == pytest.approx(sum(rows) / len(rows), abs=1e-9)
    assert min(rows) <= report.metrics["test/chrf_low"] < report.metrics["test/chrf"]
    assert report.metrics["test/chrf"] < report.metrics["test/chrf_high"] <= max(rows)
    closing_report(Run(tmp_path), config, report.metrics | report.facts)
    header, model = capsys.readouterr().out.splitlines()[1:3]
    assert header.split()[-1] == "chrF"
    assert model.split()[-1] == f"{report.metrics['test/chrf']:.2f}"
    card = results_table(report.metrics, "test").splitlines()
    assert len({line.count("|") for line in card}) == 1
    assert f"| {report.metrics['test/chrf']:.2f} |" in card[2]


def test_metrics_of_an_earlier_version_are_shown_without_it(config, tmp_path, capsys):
    metrics = score_split("test", Split(["one text", "another"]), ["one", "two"], config, 1.0).metrics
    earlier = {key: value for key, value in metrics.items() if "chrf" not in key}
    closing_report(Run(tmp_path), config, earlier)
    assert f"{metrics['test/rougeL']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("summaries", "words"),
    [
        (["the", "the", "the"], "all 3 summaries are the same text ('the')"),
        (["", " ", "a text"], "2 of 3 summaries are empty"),
        (["", "", ""], "3 of 3 summaries are empty"),
        (["a", "b", "b"], None),
    ],
)
def test_summaries_whose_scores_say_nothing_are_named(summaries, words, config, caplog):
    split = Split(["first text", "second text", "third text"])
    with caplog.at_level(logging.WARNING):
        metrics = score_split("test", split, summaries, config, 1.0).metrics
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (words is not None)
    assert words is None or words in said[0]
    assert metrics["test/rows"] == 3


def test_references_that_are_all_one_text_or_have_no_word_are_named():
    assert "all 3 references are the same text" in notices("test", ["a text"] * 3)[0]
    assert "2 of 2 references have no word" in notices("test", ["...", "?!"])[0]
    assert notices("test", ["a text"]) == []


def test_the_package_is_imported_with_the_first_score():
    code = "import sys, summarizer.evaluation.evaluate; assert not {'sacrebleu', 'lxml'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)

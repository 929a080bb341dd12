"""Scores, rules and intervals against independent figures."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from summarizer.evaluation.baselines import baselines, is_a, sentences
from summarizer.evaluation.rouge import ROUGE, score_rows
from summarizer.evaluation.statistics import bootstrap_interval, text_statistics

PREDICTIONS = ["fast running editors\nfor texts", "", "a tool", "Running the tests, twice twice"]
REFERENCES = ["a fast editor\nthat runs", "a parser", "", "run the test twice"]


@pytest.mark.parametrize("key", ROUGE)
def test_scores_equal_the_package(key: str) -> None:
    package = RougeScorer([key], use_stemmer=True)
    expected = [package.score(r, p)[key].fmeasure for p, r in zip(PREDICTIONS, REFERENCES, strict=True)]
    np.testing.assert_allclose(score_rows(PREDICTIONS, REFERENCES)[key], expected, atol=1e-9)


def test_a_semicolon_ends_a_sentence_only_before_a_capital() -> None:
    assert sentences("One; two. Three: Four") == ["One; two.", "Three:", "Four"]


def test_rules_follow_their_definition() -> None:
    assert is_a("Foo is a small editor for texts. It is the best.") == "small editor for texts."
    found = baselines(["Bad start. A fast parser. End."], ["fast parser"])
    assert found["lead1"] == ["Bad start."]
    assert found["oracle"] == ["A fast parser."]


def test_interval_matches_the_normal_one_and_repeats_with_its_seed() -> None:
    values = np.random.default_rng(1).random(2000)
    low, high = bootstrap_interval(values, 2000, seed=3)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == bootstrap_interval(values, 2000, seed=3)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)


def test_statistics_count_new_and_repeated_words() -> None:
    found = text_statistics(["new word new word"], ["a word here"])
    assert (found["summary_words"], found["novel_1gram"]) == (4, 50)
    assert found["repetition"] == pytest.approx(100 / 3)

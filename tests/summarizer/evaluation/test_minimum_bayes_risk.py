"""The choice among beams: what agrees with the others wins, and the figures are rouge_score's own."""

from itertools import product

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from summarizer.evaluation.minimum_bayes_risk import least_risk


def test_the_beam_that_the_others_agree_with_is_chosen_though_another_is_more_probable() -> None:
    beams = [
        "shell script",
        "tool to control monitor settings",
        "tool to control the monitor",
        "program to control monitors",
    ]
    assert least_risk(beams) == 1


def test_of_beams_that_share_no_word_the_most_probable_is_chosen() -> None:
    assert least_risk(["one two", "three four", "five six"]) == 0


@pytest.mark.parametrize("beams", [["alone"], ["", ""], ["same words", "same words", "same words"]])
def test_nothing_to_choose_from_gives_the_first(beams: list[str]) -> None:
    assert least_risk(beams) == 0


def test_the_choice_has_the_highest_rank_weighted_rouge_of_all_beams() -> None:
    """Against every pair scored by the package itself, over random beams of a few words."""
    words = ["tool", "library", "program", "to", "control", "monitor", "monitors", "of", "the", "system"]
    random, scorer = np.random.default_rng(0), RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for _ in range(20):
        beams = [" ".join(random.choice(words, random.integers(2, 7))) for _ in range(6)]
        expected = np.zeros(len(beams))
        for (i, beam), (rank, other) in product(enumerate(beams), enumerate(beams)):
            scores = scorer.score(target=other, prediction=beam)
            expected[i] += (len(beams) - rank) * sum(score.fmeasure for score in scores.values())
        assert expected[least_risk(beams)] == pytest.approx(expected.max(), abs=1e-9)

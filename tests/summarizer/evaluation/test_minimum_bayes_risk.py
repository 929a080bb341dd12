"""The choice among beams: what agrees with the others wins, and the figures are rouge_score's own."""

from itertools import product

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from summarizer.evaluation.agreement import agreement
from summarizer.evaluation.minimum_bayes_risk import least_risk
from summarizer.evaluation.rouge import rouge


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


@pytest.mark.parametrize("longest", [1, 9, 64, 90])
@pytest.mark.parametrize("vocabulary", [2, 40])
def test_the_agreement_of_all_pairs_is_rouges_to_the_last_digit(longest: int, vocabulary: int) -> None:
    random = np.random.default_rng(longest)
    lengths = [0, 1, longest, *random.integers(0, longest + 1, 8)]
    texts = [" ".join(f"w{number}" for number in random.integers(0, vocabulary, length)) for length in lengths]
    expected = [[sum(rouge().scores(one, other)[:3]) for other in texts] for one in texts]
    assert agreement([text.split() for text in texts]).tolist() == expected

"""Paired comparisons, the front of quality against cost, and the importance of settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from summarizer.evaluation.statistics import paired_interval
from summarizer.report.records import read_run
from summarizer.report.significance import compare, front, importance, in_words, resampled_means, same_rows
from tests.summarizer.report.folders import make_run


def test_a_better_run_differs_and_an_equal_one_does_not() -> None:
    random = np.random.default_rng(0)
    base = random.uniform(0.2, 0.5, 300)
    scores = np.stack([base + 0.03 + random.normal(0, 0.05, 300), base, base + random.normal(0, 0.05, 300)], axis=1)
    means = resampled_means(scores)
    better = compare(means, scores, 0, 1)
    assert better.differs
    assert better.low > 0
    assert better.difference == pytest.approx(100 * (scores[:, 0] - scores[:, 1]).mean())
    assert not compare(means, scores, 2, 1).differs
    assert compare(means, scores, 1, 0).difference == -better.difference


def test_intervals_agree_with_those_of_the_evaluation() -> None:
    random = np.random.default_rng(1)
    scores = random.uniform(0, 1, (500, 2))
    found = compare(resampled_means(scores, 4000), scores, 0, 1)
    low, high = paired_interval(scores[:, 0], scores[:, 1], samples=4000)
    assert found.low == pytest.approx(100 * low, abs=0.3)
    assert found.high == pytest.approx(100 * high, abs=0.3)


def test_equal_runs_have_p_1() -> None:
    scores = np.tile(np.linspace(0, 1, 20)[:, None], (1, 2))
    assert compare(resampled_means(scores), scores, 0, 1).p == 1.0


def test_rows_are_paired_by_what_they_are_and_not_by_their_place(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", quality=0.5, rows=30)
    scores = same_rows([read_run(a), read_run(b)])
    assert scores is not None
    assert len(scores) == 30
    assert (scores[:, 1] > scores[:, 0]).all()
    other = make_run(tmp_path / "c", text="other documents")
    assert same_rows([read_run(a), read_run(other)]) is None


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    points = [(1.0, 10.0), (2.0, 9.0), (2.0, 12.0), (3.0, 12.0), (4.0, 15.0), (1.0, 8.0)]
    assert front(points) == [0, 2, 4]


def test_the_verdict_says_cost_and_p() -> None:
    scores = np.tile(np.linspace(0, 1, 20)[:, None], (1, 2))
    words = in_words("a", "b", 4.0, compare(resampled_means(scores), scores, 1, 0))
    assert words == "b costs 4.0x as much as a and is not better (p = 1, 20 rows)"


def test_importance_finds_the_setting_that_matters_and_needs_ten_runs() -> None:
    random = np.random.default_rng(0)
    lr, noise, kind = random.uniform(1e-5, 1e-2, 40), random.uniform(0, 1, 40), random.choice(["a", "b"], 40)
    objective = np.log10(lr) + 0.05 * random.normal(size=40)
    values = list(zip(lr.tolist(), noise.tolist(), kind.tolist(), strict=True))
    shares = importance(values, objective.tolist())
    assert shares is not None
    assert shares[0] > 0.8
    assert sum(shares) == pytest.approx(1)
    assert importance(values[:9], objective[:9].tolist()) is None
    assert importance(values[:10], [1.0] * 10) is None

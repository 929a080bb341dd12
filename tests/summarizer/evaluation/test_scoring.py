"""The end of an evaluation: the package's figures, each reckoned once, by one pool, and never lost with a process."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer, lcs_ind

from summarizer.evaluation import evaluate, rouge, scoring, workers
from summarizer.evaluation.baselines import NAMES, baselines, sentences
from summarizer.evaluation.evaluate import score_split
from summarizer.evaluation.longest_common import common_length, common_positions
from summarizer.evaluation.rouge import ROUGE, score_row
from summarizer.evaluation.scoring import Scoring
from summarizer.evaluation.workers import Workers
from tests.summarizer.jobs import ROOT, die_elsewhere
from tests.summarizer.processes import on_two_processes

PACKAGE = RougeScorer(list(ROUGE), use_stemmer=True)
VOCABULARY = [
    stem + end for stem in ("run", "edit", "pars", "read", "talk", "x86", "own") for end in ("", "s", "ing", "er", "ed")
]


class News:
    """Rows in the shape of news: documents of many sentences, references of several lines."""

    def __init__(self, rows: int, sentences: int = 12, seed: int = 0) -> None:
        rng = random.Random(seed)

        def sentence(least: int, most: int) -> str:
            return " ".join(rng.choices(VOCABULARY, k=rng.randint(least, most))).capitalize() + "."

        self.documents = [" ".join(sentence(3, 20) for _ in range(sentences)) for _ in range(rows)]
        self.references = ["\n".join(sentence(2, 9) for _ in range(rng.randint(1, 4))) for _ in range(rows)]
        self.summaries = ["\n".join(sentence(2, 9) for _ in range(rng.randint(0, 4))) for _ in range(rows)]

    def __len__(self) -> int:
        return len(self.documents)

    def document(self, i: int) -> str:
        return self.documents[i]

    def summary(self, i: int) -> str:
        return self.references[i]

    def id(self, i: int) -> str:
        return str(i)


@pytest.fixture
def config(tmp_path: Path) -> SimpleNamespace:
    measured = SimpleNamespace(bootstrap_samples=20, bertscore=False, bertscore_model=None)
    return SimpleNamespace(evaluation=measured, data=SimpleNamespace(cache_dir=str(tmp_path / "cache")), seed=1)


def package_scores(prediction: str, reference: str) -> tuple[float, ...]:
    scores = PACKAGE.score(reference, prediction)
    return tuple(scores[key].fmeasure for key in ROUGE)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.lists(st.sampled_from("abcde"), max_size=30))
@settings(max_examples=300, deadline=None)
def test_the_longest_common_subsequence_is_the_packages(reference: list[str], candidate: list[str]) -> None:
    assert common_positions(reference, candidate) == lcs_ind(reference, candidate)[::-1]
    assert common_length(reference, candidate) == len(lcs_ind(reference, candidate))


def test_scores_of_news_are_the_packages_to_the_last_digit() -> None:
    split = News(40)
    for prediction, reference in zip(split.summaries, split.references, strict=True):
        assert score_row(prediction, reference) == package_scores(prediction, reference)


def test_the_best_sentence_is_the_one_that_scoring_each_by_the_package_finds() -> None:
    split = News(40)
    chosen = baselines(split.documents, split.references)["oracle"]
    for text, document, reference in zip(chosen, split.documents, split.references, strict=True):
        candidates = sentences(document)
        scores = [sum(package_scores(candidate, reference)[:2]) for candidate in candidates]
        assert text == candidates[int(np.argmax(scores))]


def test_each_rule_has_the_packages_mean(config: SimpleNamespace) -> None:
    split = News(10)
    metrics = score_split("test", split, split.summaries, config, 1.0).metrics
    for rule, texts in {"": split.summaries, **baselines(split.documents, split.references)}.items():
        scores = np.array([package_scores(t, r) for t, r in zip(texts, split.references, strict=True)])
        for key, mean in zip(ROUGE, 100 * scores.mean(axis=0), strict=True):
            assert metrics[f"test/{rule}/{key}" if rule else f"test/{key}"] == pytest.approx(mean, abs=1e-9)


def scored(split: News, processes: int, *, beside: bool = False) -> scoring.Scored:
    with Workers(processes, beside=beside) as pool:
        work = Scoring(split.documents, split.references, pool)
        for row in reversed(range(len(split))):
            work.add(row, [split.summaries[row], split.references[row], split.summaries[row]])
        return work.finish()


def test_several_processes_give_what_one_gives_in_the_order_of_the_rows() -> None:
    split = News(150, sentences=3)
    one, two = (scored(split, processes) for processes in (1, 2))
    assert one.rows == two.rows == list(range(150))
    assert one.summaries == two.summaries == split.summaries
    np.testing.assert_array_equal(one.figures, two.figures)
    np.testing.assert_array_equal(one.baselines, two.baselines)
    assert one.baselines.shape == (150, len(NAMES), len(ROUGE))
    thread = scored(split, 1, beside=True)
    assert thread.summaries == one.summaries
    np.testing.assert_array_equal(thread.figures, one.figures)


def test_a_thread_works_while_the_next_summaries_are_written() -> None:
    done = threading.Event()
    with Workers(0, beside=True) as pool:
        pool.submit(done.set, rows=1)
        assert done.wait(60)
        pool.submit(int, "no number", rows=1)
        results = pool.results()
        assert next(results) is None
        with pytest.raises(ValueError, match="no number"):
            next(results)


def counted(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> list[object]:
    """A list that grows with each call of a module's function."""
    calls: list[object] = []
    real = getattr(module, name)

    def call(*arguments: object, **options: object) -> object:
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(module, name, call)
    return calls


def test_the_work_does_not_grow_with_the_sentences_times_the_measures(
    monkeypatch: pytest.MonkeyPatch, config: SimpleNamespace
) -> None:
    tables = counted(monkeypatch, rouge, "common_length")
    split = News(5, sentences=60)
    score_split("test", split, split.summaries, config, 1.0)
    assert len(tables) <= len(split) * (1 + len(NAMES)), "a table for each summary, none for each sentence"


def test_a_split_has_one_pool_for_all_its_rules(monkeypatch: pytest.MonkeyPatch, config: SimpleNamespace) -> None:
    split = News(130, sentences=3)
    monkeypatch.setattr(scoring, "CHARACTERS_A_WORKER", sum(map(len, split.documents)) // 2)
    monkeypatch.setattr(scoring, "usable_cores", lambda: 16)
    pools = counted(monkeypatch, workers, "ProcessPoolExecutor")
    score_split("test", split, split.summaries, config, 1.0)
    assert [arguments[0] for arguments in pools] == [2], "as many processes as the texts are worth, started once"


def test_a_small_split_starts_no_process(monkeypatch: pytest.MonkeyPatch, config: SimpleNamespace) -> None:
    pools = counted(monkeypatch, workers, "ProcessPoolExecutor")
    score_split("test", News(1400, sentences=3), ["a summary"] * 1400, config, 1.0)
    assert pools == []


def test_long_texts_without_a_sentence_end_are_scored_in_seconds(config: SimpleNamespace) -> None:
    """By the package's tables two such rows took 28 s; the bound is on this process's own time."""
    rng = random.Random(0)
    split = News(2)
    split.documents = [" ".join(rng.choices(VOCABULARY, k=10_000)) for _ in range(2)]
    split.references = ["\n".join(" ".join(rng.choices(VOCABULARY, k=50)) for _ in range(10)) for _ in range(2)]
    started = time.process_time()
    metrics = score_split("test", split, split.references, config, 1.0).metrics
    assert time.process_time() - started < 10
    assert metrics["test/lead1/rougeL"] == metrics["test/oracle/rougeL"] > 0


def test_the_rules_are_scored_once_for_the_same_texts(monkeypatch: pytest.MonkeyPatch, config: SimpleNamespace) -> None:
    rules = counted(monkeypatch, scoring, "summaries_of")
    split = News(20, sentences=3)
    first = score_split("test", split, split.summaries, config, 1.0)
    again = score_split("test", split, split.references, config, 1.0)
    assert len(rules) == 20
    assert {k: v for k, v in again.metrics.items() if "/lead1/rouge1" in k} == {
        "test/lead1/rouge1": first.metrics["test/lead1/rouge1"]
    }
    split.references[7] += " changed"
    score_split("test", split, split.summaries, config, 1.0)
    assert len(rules) == 40, "other texts are another entry"


@pytest.mark.parametrize("damage", ["cut", "changed", "mark"])
def test_a_damaged_entry_of_the_cache_is_made_again(damage: str, config: SimpleNamespace) -> None:
    split = News(20, sentences=3)
    first = score_split("test", split, split.summaries, config, 1.0).metrics
    (file,) = Path(config.data.cache_dir).glob("baselines/*/scores.f64")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[:-8])
    elif damage == "changed":
        file.write_bytes(b"\0" * len(content))
    else:
        (file.parent / "complete.json").write_text('{"notes": {}, "files": {}}')
    assert score_split("test", split, split.summaries, config, 1.0).metrics == first
    assert file.read_bytes() == content


def test_a_cache_that_cannot_be_written_costs_no_result(
    config: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    Path(config.data.cache_dir).write_text("a file where the folder should be")
    split = News(3)
    with caplog.at_level(logging.WARNING):
        assert "test/oracle/rougeL" in score_split("test", split, split.summaries, config, 1.0).metrics
    assert "not kept for the next job" in caplog.text


def test_progress_is_shown_while_scores_are_reckoned(
    config: SimpleNamespace, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("summarizer.data.progress.LINE_EVERY_SECONDS", 0)
    split = News(130, sentences=3)
    with caplog.at_level(logging.INFO):
        score_split("test", split, split.summaries, config, 1.0)
    assert "scoring test: 64 of 260 documents" in caplog.text
    assert "scoring test: 260 of 260 documents" in caplog.text


def test_a_process_that_dies_takes_no_result_with_it(caplog: pytest.LogCaptureFixture) -> None:
    with Workers(2) as pool, caplog.at_level(logging.WARNING):
        for _ in range(3):
            pool.submit(die_elsewhere, os.getpid(), rows=1)
        assert list(pool.results()) == [os.getpid()] * 3
    assert caplog.text.count("scoring continues in this one") == 1


def test_processes_end_when_the_one_that_started_them_is_killed() -> None:
    program = (
        "import sys, time\n"
        "from summarizer.evaluation.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    with Workers(2) as pool:\n"
        "        pool.submit(time.sleep, 0, rows=1)\n"
        "        list(pool.results())\n"
        "        pool.submit(time.sleep, 600, rows=1)\n"
        "        print('started', flush=True)\n"
        "        time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def share_and_whole() -> tuple[list[int], list[str], np.ndarray, np.ndarray]:
    rank, world_size = evaluate.rank_and_world_size()
    split, part = News(7, sentences=2), News(0)
    part.documents, part.references, part.summaries = (
        column[rank::world_size] for column in (split.documents, split.references, split.summaries)
    )
    whole = evaluate.together(scored(part, 1), world_size)
    return whole.rows, whole.summaries, whole.figures, whole.baselines


def test_each_of_two_ranks_scores_its_rows_and_both_have_the_whole() -> None:
    alone = scored(News(7, sentences=2), 1)
    for rows, summaries, figures, rules in on_two_processes(share_and_whole):
        assert (rows, summaries) == (alone.rows, alone.summaries)
        np.testing.assert_array_equal(figures, alone.figures)
        np.testing.assert_array_equal(rules, alone.baselines)

"""How long a job stands after its last summary is written: scores, rules, intervals, Parquet; against plain calls of rouge_score.

    python benchmarks/scoring.py [--rows 11490] [--sample 20] [--summaries-per-second 250]

Rows of the shape of CNN/DailyMail's test split: documents of 750 words in 38 sentences, references of 56 words, made of random
words. Prints one JSON line a case:

    cold      nothing is cached; summaries come at the given rate, as from a card
    at once   nothing is cached, and all summaries come at one moment: nothing is done beside the generation
    cached    as cold; the scores of the rules are in the cache

`seconds` is the time after the last summary, `cpu_seconds` what all processes worked for scoring (the one to compare on a busy
machine). The reference is what each row cost before: `RougeScorer.score` of all four measures
for the summary, each rule and each sentence of the document, on one core, measured on `--sample` rows and multiplied by the rows.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from rouge_score.rouge_scorer import RougeScorer

from summarizer.evaluation.baselines import baselines, sentences
from summarizer.evaluation.rouge import ROUGE
from summarizer.evaluation.scoring import worker_count
from summarizer.evaluation.words import choose
from summarizer.hardware import usable_cores

if TYPE_CHECKING:
    from summarizer.evaluation.evaluate import Texts


def news(rows: int) -> tuple[Texts, list[str]]:
    """Documents, references that share two thirds of their words with them, and summaries that share half."""
    from summarizer.evaluation.evaluate import Texts  # with torch, which the processes that score need not load

    rng = random.Random(0)
    vocabulary = ["".join(rng.choices("aaabcdeeefghiiklmnooprssttuvwy", k=rng.randint(2, 11))) for _ in range(20_000)]
    cumulated = list(itertools.accumulate(1 / (rank + 5) for rank in range(len(vocabulary))))

    def words(count: int) -> list[str]:
        return rng.choices(vocabulary, cum_weights=cumulated, k=count)

    documents = [
        " ".join(" ".join(words(750 // 38 + (i % 38 < 750 % 38))).capitalize() + "." for i in range(38))
        for _ in range(rows)
    ]
    references = [" ".join(rng.sample(document.split(), 37) + words(19)) for document in documents]
    summaries = [" ".join(rng.sample(reference.split(), 28) + words(28)) for reference in references]
    return Texts([str(i) for i in range(rows)], documents, references, choose(references)), summaries


def reference_seconds(texts: Texts, summaries: list[str], sample: int) -> float:
    """Processor seconds a row of the plain way, which are its seconds: it takes one core."""
    scorer = RougeScorer(list(ROUGE), use_stemmer=True)
    documents, references = texts.documents[:sample], texts.references[:sample]
    rules = [written for name, written in baselines(documents, references).items() if name != "oracle"]
    started = time.process_time()
    for written in (summaries[:sample], *rules):
        for text, reference in zip(written, references, strict=True):
            scorer.score(reference, text)
    for document, reference in zip(documents, references, strict=True):
        for sentence in sentences(document):
            scorer.score(reference, sentence)
    return (time.process_time() - started) / sample


def cpu_seconds() -> float:
    """Of this process and those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def end_of_job(texts: Texts, summaries: list[str], rate: float, cache: Path) -> tuple[float, float]:
    """Seconds from the last summary to the written predictions, and processor seconds of all of the scoring.

    Args:
        rate: summaries that come in a second; 0 for all at one moment.
    """
    from summarizer.evaluation.evaluate import begin_scoring, cached_baselines, finished_report

    measured = SimpleNamespace(bootstrap_samples=1000, bertscore=False, bertscore_model=None)
    config = SimpleNamespace(evaluation=measured, data=SimpleNamespace(cache_dir=str(cache)), seed=0)
    before = cpu_seconds()
    cached = cached_baselines(texts, config)
    with begin_scoring(texts, cached, range(len(summaries))) as scoring:
        started = time.perf_counter()
        for row, summary in enumerate(summaries):
            if rate and (early := started + row / rate - time.perf_counter()) > 0:
                time.sleep(early)
            scoring.add(row, [summary])
        last = time.perf_counter()
        report = finished_report("test", texts, scoring, cached, config, 0.0)
    report.write(cache / "predictions.parquet")
    return time.perf_counter() - last, cpu_seconds() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=11_490)
    parser.add_argument("--sample", type=int, default=20)
    parser.add_argument("--summaries-per-second", type=float, default=250.0)
    options = parser.parse_args()
    texts, summaries = news(options.rows)
    plain = reference_seconds(texts, summaries, options.sample)
    characters = sum(map(len, texts.documents))
    machine = {"rows": options.rows, "cores": usable_cores(), "processes": max(1, worker_count(characters))}
    with tempfile.TemporaryDirectory() as folder:
        caches = {"cold": Path(folder, "one"), "at once": Path(folder, "two"), "cached": Path(folder, "one")}
        for case, cache in caches.items():
            cache.mkdir(exist_ok=True)
            rate = 0.0 if case == "at once" else options.summaries_per_second
            seconds, worked = end_of_job(texts, summaries, rate, cache)
            row = {"case": case, **machine, "seconds": round(seconds, 2), "cpu_seconds": round(worked, 2)}
            extrapolated = {
                "reference_seconds_a_row": round(plain, 4),
                "reference_seconds_extrapolated": round(plain * options.rows, 1),
                "ratio": round(plain * options.rows / seconds, 1),
                "cpu_ratio": round(plain * options.rows / worked, 1),
            }
            print(json.dumps(row | extrapolated), flush=True)


if __name__ == "__main__":
    main()

"""One evaluation of one split: the same code and settings at the end of a training and in `task=evaluate`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from summarizer.data.progress import progress as shown
from summarizer.data.store import cache_root
from summarizer.errors import ConfigError
from summarizer.evaluation import baseline_cache
from summarizer.evaluation.baselines import NAMES
from summarizer.evaluation.distributed import gather, rank_and_world_size
from summarizer.evaluation.generation import on_card, search
from summarizer.evaluation.rouge import ROUGE
from summarizer.evaluation.scoring import MEASURES, Scored, Scoring, worker_count
from summarizer.evaluation.statistics import bootstrap_interval, mean_statistics, paired_interval
from summarizer.evaluation.words import choose, looks_english, summary_notices
from summarizer.evaluation.workers import Workers
from summarizer.run import write_atomically

log = logging.getLogger(__name__)

STRONGEST_RULES = ("lead1", "is_a")


class Split(Protocol):
    """What an evaluation reads of a tokenized split."""

    def __len__(self) -> int: ...
    def source(self, i: int) -> np.ndarray: ...
    def document(self, i: int) -> str: ...
    def summary(self, i: int) -> str: ...
    def id(self, i: int) -> str: ...


@dataclass(frozen=True)
class SplitReport:
    """Figures and rows of one split.

    Attributes:
        metrics: flat map of numbers, keys start with the split's name; scores and shares times 100.
        facts: what belongs beside them in metrics.json and is no number: `<split>/rouge_tokenizer`.
        language: `en` where the documents look like English text.
        table: column name to values: id, document, reference, summary, rouge1, rouge2, rougeL, rougeLsum, chrf (0 to 1).
    """

    name: str
    metrics: dict[str, float]
    facts: dict[str, str]
    language: str | None
    table: dict[str, Any]

    @property
    def rouge_tokenizer(self) -> str:
        return self.facts[f"{self.name}/rouge_tokenizer"]

    def write(self, path: Path) -> None:
        """Write the table as Parquet, all of it or nothing.

        Raises:
            OutputError: the folder cannot be written.
        """
        import pyarrow as pa
        import pyarrow.parquet as parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table(self.table), sink, compression="zstd")
        write_atomically(path, sink.getvalue().to_pybytes())


def evaluate_split(
    model: Any,
    tokenizer: Any,
    split: Split,
    config: Any,
    *,
    name: str,
    progress: Callable[[int, int], None] | None = None,
) -> SplitReport:
    """Summarize every row of `split` and score it while the next are generated. Of several processes each takes its share;
    all return the whole.

    Args:
        progress: called with (summaries written, of how many); None shows a bar or lines.

    Raises:
        HardwareError: out of memory.
    """
    rank, world_size = rank_and_world_size()
    texts = Texts.of(split)
    mine = range(rank, len(split), world_size)
    cached = cached_baselines(texts, config)
    with begin_scoring(texts, cached, mine, beside=on_card(model)) as scoring:
        started = time.perf_counter()
        was_training = model.training
        model.eval()
        with on_first_rank(f"summarizing {name}") if progress is None else nullcontext(progress) as report:

            def take(row: int, beams: list[list[int]]) -> None:
                written = tokenizer.batch_decode(beams, skip_special_tokens=True)
                scoring.add(row, [text.strip() for text in written])

            search(
                model, [split.source(i) for i in mine], settings=config.generation, tokenizer=tokenizer, progress=report,
                batch_tokens=config.hardware.generation_tokens, finished=take,
            )  # fmt: skip
        model.train(was_training)
        seconds = time.perf_counter() - started
        return finished_report(name, texts, scoring, cached, config, seconds)


def score_split(
    name: str, split: Split, summaries: Sequence[str], config: Any, generation_seconds: float
) -> SplitReport:
    """Everything but the generation."""
    texts = Texts.of(split)
    cached = cached_baselines(texts, config)
    with begin_scoring(texts, cached, range(len(split))) as scoring:
        for row, summary in enumerate(summaries):
            scoring.add(row, [summary])
        return finished_report(name, texts, scoring, cached, config, generation_seconds)


@dataclass(frozen=True)
class Texts:
    """A split's own columns."""

    ids: list[str]
    documents: list[str]
    references: list[str]
    tokenizer: str
    """How ROUGE counts the split's words: see `words.choose`."""

    @classmethod
    def of(cls, split: Split) -> Texts:
        rows = range(len(split))
        references = [split.summary(i) for i in rows]
        ids, documents = [str(split.id(i)) for i in rows], [split.document(i) for i in rows]
        return cls(ids, documents, references, choose(references))


def cached_baselines(texts: Texts, config: Any) -> Path:
    """Where the rules' scores on this split are kept."""
    return baseline_cache.entry(cache_root(config.data.cache_dir), texts.documents, texts.references, texts.tokenizer)


@contextmanager
def begin_scoring(texts: Texts, cached: Path, mine: range, *, beside: bool = False) -> Iterator[Scoring]:
    """Scoring of these rows of a split; its processes end with the block.

    Args:
        beside: of `Workers`.
    """
    documents, references = texts.documents[mine.start :: mine.step], texts.references[mine.start :: mine.step]
    known = baseline_cache.read(cached, len(texts.documents))
    with Workers(worker_count(sum(map(len, documents)), mine.step), beside=beside) as workers:
        share = None if known is None else known[mine.start :: mine.step]
        yield Scoring(documents, references, workers, share, texts.tokenizer)


def finished_report(
    name: str, texts: Texts, scoring: Scoring, cached: Path, config: Any, generation_seconds: float
) -> SplitReport:
    """The figures of all rows, once the last summary is handed over."""
    rank, world_size = rank_and_world_size()
    with on_first_rank(f"scoring {name}") as report:
        scored = together(scoring.finish(report), world_size)
    assert scored.rows == list(range(len(texts.ids))), "each row once"
    if rank == 0:
        for notice in summary_notices(name, scored.summaries):
            log.warning("%s", notice)
    if rank == 0 and scoring.baselines is None:
        baseline_cache.write(cached, scored.baselines)
    samples, seed = config.evaluation.bootstrap_samples, config.seed
    scores = {key: scored.figures[:, i] for i, key in enumerate(MEASURES)}
    metrics = {"rows": float(len(scored.rows)), "generation_seconds": generation_seconds}
    for key in MEASURES:
        low, high = bootstrap_interval(scores[key], samples, seed)
        metrics |= {key: 100 * mean(scores[key]), f"{key}_low": 100 * low, f"{key}_high": 100 * high}
    for number, rule in enumerate(NAMES):
        of_rule = {key: scored.baselines[:, number, i] for i, key in enumerate(ROUGE)}
        metrics |= {f"{rule}/{key}": 100 * mean(of_rule[key]) for key in ROUGE}
        if rule in STRONGEST_RULES:
            low, high = paired_interval(scores["rougeL"], of_rule["rougeL"], samples, seed)
            metrics |= {f"{rule}/rougeL_gain_low": 100 * low, f"{rule}/rougeL_gain_high": 100 * high}
    metrics |= mean_statistics(scored.figures[:, len(MEASURES) :])
    table = {
        "id": texts.ids, "document": texts.documents, "reference": texts.references, "summary": scored.summaries, **scores,
    }  # fmt: skip
    return SplitReport(
        name,
        metrics={f"{name}/{key}": float(value) for key, value in metrics.items()},
        facts={f"{name}/rouge_tokenizer": texts.tokenizer},
        language="en" if looks_english(texts.documents, texts.tokenizer) else None,
        table=table,
    )


def together(mine: Scored, world_size: int) -> Scored:
    """What all ranks scored, in the order of the split: row i is the rank's i // world_size-th."""
    shares = gather([mine])
    place = [(i % world_size, i // world_size) for i in range(sum(len(share.rows) for share in shares))]
    return Scored(
        [world_size * shares[rank].rows[i] + rank for rank, i in place],
        [shares[rank].summaries[i] for rank, i in place],
        *(
            np.stack([getattr(shares[rank], part)[i] for rank, i in place]) if place else getattr(mine, part)
            for part in ("figures", "baselines")
        ),
    )


def on_first_rank(description: str) -> AbstractContextManager[Callable[[int, int], None] | None]:
    """A bar or lines that count documents; on other ranks nothing."""
    return shown(description, "documents") if rank_and_world_size()[0] == 0 else nullcontext()


def mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def bertscore_of(report: SplitReport, model: str | None) -> dict[str, float]:
    """The BERTScore of a scored split, as a figure of its metrics; downloads a model.

    Raises:
        ConfigError: without the package.
    """
    f1 = bertscore(report.table["summary"], report.table["reference"], model)
    return {f"{report.name}/bertscore_f1": 100 * f1}


def bertscore(summaries: Sequence[str], references: Sequence[str], model: str | None) -> float:
    """Mean F1 of BERTScore (Zhang et al. 2020, arXiv 1904.09675), 0 to 1."""
    try:
        from bert_score import score
    except ImportError as error:
        raise ConfigError(
            "evaluation.bertscore needs the bert-score package: pip install 'summarizer[bertscore]' or set "
            "evaluation.bertscore=false."
        ) from error
    _, _, f1 = score(list(summaries), list(references), lang="en", model_type=model)
    return float(f1.mean())

"""One evaluation of one split: the same code and settings at the end of a training and in `task=evaluate`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from summarizer.errors import ConfigError
from summarizer.evaluation.baselines import baselines
from summarizer.evaluation.distributed import gather, rank_and_world_size
from summarizer.evaluation.generation import summarize_batches
from summarizer.evaluation.rouge import ROUGE, score_rows
from summarizer.evaluation.statistics import bootstrap_interval, paired_interval, text_statistics
from summarizer.run import write_atomically

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
        metrics: flat map, keys start with the split's name; ROUGE and shares times 100.
        table: column name to values: id, document, reference, summary, rouge1, rouge2, rougeL, rougeLsum (0 to 1).
    """

    name: str
    metrics: dict[str, float]
    table: dict[str, Any]

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
    """Summarize every row of `split` and score it. Of several processes each takes its share; all return the whole.

    Raises:
        HardwareError: out of memory.
    """
    started = time.perf_counter()
    rank, world_size = rank_and_world_size()
    mine = list(range(len(split)))[rank::world_size]
    was_training = model.training
    model.eval()
    written = summarize_batches(
        model, [split.source(i) for i in mine], settings=config.generation, tokenizer=tokenizer, progress=progress,
        batch_tokens=config.hardware.generation_tokens,
    )  # fmt: skip
    model.train(was_training)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    by_row = dict(gather([(i, text.strip()) for i, text in zip(mine, texts, strict=True)]))
    seconds = time.perf_counter() - started
    assert len(by_row) == len(split), "each row once"
    return score_split(name, split, [by_row[i] for i in range(len(split))], config, seconds)


def score_split(
    name: str, split: Split, summaries: Sequence[str], config: Any, generation_seconds: float
) -> SplitReport:
    """Everything but the generation."""
    rows = range(len(split))
    documents, references = [split.document(i) for i in rows], [split.summary(i) for i in rows]
    samples, seed = config.evaluation.bootstrap_samples, config.seed
    scores = score_rows(summaries, references)
    metrics = {"rows": float(len(split)), "generation_seconds": generation_seconds}
    for key in ROUGE:
        low, high = bootstrap_interval(scores[key], samples, seed)
        metrics |= {key: 100 * mean(scores[key]), f"{key}_low": 100 * low, f"{key}_high": 100 * high}
    for rule, texts in baselines(documents, references).items():
        of_rule = score_rows(texts, references)
        metrics |= {f"{rule}/{key}": 100 * mean(of_rule[key]) for key in ROUGE}
        if rule in STRONGEST_RULES:
            low, high = paired_interval(scores["rougeL"], of_rule["rougeL"], samples, seed)
            metrics |= {f"{rule}/rougeL_gain_low": 100 * low, f"{rule}/rougeL_gain_high": 100 * high}
    metrics |= text_statistics(summaries, documents)
    table = {
        "id": [str(split.id(i)) for i in rows], "document": documents, "reference": references,
        "summary": list(summaries), **scores,
    }  # fmt: skip
    return SplitReport(name, {f"{name}/{key}": float(value) for key, value in metrics.items()}, table)


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

"""Scores of a split's rows, reckoned in chunks: by several processes, and while the next summaries are generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from summarizer.evaluation.baselines import NAMES, summaries_of
from summarizer.evaluation.chrf import CHRF, chrf
from summarizer.evaluation.minimum_bayes_risk import least_risk
from summarizer.evaluation.rouge import ROUGE, rouge
from summarizer.evaluation.statistics import STATISTICS, row_statistics
from summarizer.evaluation.words import PUBLISHED
from summarizer.evaluation.workers import Workers
from summarizer.hardware import usable_cores

CHUNK = 64  # rows of a task
CHARACTERS_A_WORKER = 3_000_000
"""Of documents: about 1.5 s of scoring. A process for less costs more to start than it saves."""
MEASURES = (*ROUGE, CHRF)
"""Of a summary against its reference. The rules have those of ROUGE: chrF would cost more than all of these on long documents."""
SUMMARY_FIGURES = len(MEASURES) + len(STATISTICS)


@dataclass(frozen=True)
class Scored:
    """Of some rows of a split, by their number, what was chosen and measured.

    Attributes:
        summaries: of the beams of a row the one that is its summary.
        figures: [rows, 11], the `MEASURES` (0 to 1), then those of `STATISTICS`.
        baselines: [rows, rules, measures of `ROUGE`], 0 to 1.
    """

    rows: list[int]
    summaries: list[str]
    figures: np.ndarray
    baselines: np.ndarray


def worker_count(characters: int, ranks: int = 1) -> int:
    """Processes that scoring documents of so many characters is worth, of those that this rank may take."""
    return min(usable_cores() // ranks, characters // CHARACTERS_A_WORKER)


class Scoring:
    """Scores the rows of a split as their summaries come; what the data alone decides is begun at once.

    Args:
        documents, references: of the rows to score.
        workers: where the work is done.
        baselines: what is known of the rules already, as in `Scored`.
        tokenizer: of `words`, for all that is counted.
    """

    def __init__(
        self,
        documents: Sequence[str],
        references: Sequence[str],
        workers: Workers,
        baselines: np.ndarray | None = None,
        tokenizer: str = PUBLISHED,
    ) -> None:
        self.documents, self.references, self.workers, self.tokenizer = documents, references, workers, tokenizer
        self.baselines = baselines
        self.waiting: dict[int, Sequence[str]] = {}
        self.order: list[int] = []
        self.rule_tasks = 0
        if baselines is None:
            for start in range(0, len(documents), CHUNK):
                part = slice(start, start + CHUNK)
                texts = documents[part], references[part]
                workers.submit(score_rules, *texts, tokenizer, rows=len(texts[0]))
                self.rule_tasks += 1

    def add(self, row: int, beams: Sequence[str]) -> None:
        """Hand over the beams of a row, the most probable first. Where there are several, the one of least risk is chosen."""
        self.waiting[row] = beams
        if len(self.waiting) >= CHUNK:
            self._submit()

    def finish(self, progress: Callable[[int, int], None] | None = None) -> Scored:
        """All of it, the rows in order."""
        self._submit()
        results = self.workers.results(progress)
        rules = list(islice(results, self.rule_tasks))
        chosen, figures = [], []
        for texts, values in results:
            chosen += texts
            figures.append(values)
        baselines = self.baselines
        if baselines is None:
            baselines = np.concatenate([*rules, np.empty((0, len(NAMES), len(ROUGE)))])
        measured = np.concatenate([*figures, np.empty((0, SUMMARY_FIGURES))])
        order = sorted(range(len(self.order)), key=self.order.__getitem__)
        return Scored([self.order[i] for i in order], [chosen[i] for i in order], measured[order], baselines)

    def _submit(self) -> None:
        rows, self.waiting = self.waiting, {}
        if not rows:
            return
        documents, references = [self.documents[i] for i in rows], [self.references[i] for i in rows]
        beams = list(rows.values())
        self.workers.submit(score_summaries, documents, references, beams, self.tokenizer, rows=len(rows))
        self.order += rows


def score_rules(documents: Sequence[str], references: Sequence[str], tokenizer: str) -> np.ndarray:
    """[rows, rules, measures] of the rules in `NAMES`. Of one row many write the same: a text is scored once."""
    table = np.empty((len(documents), len(NAMES), len(ROUGE)))
    for row, document, reference in zip(table, documents, references, strict=True):
        texts = summaries_of(document, reference, tokenizer)
        scores = {text: rouge(tokenizer).scores(text, reference) for text in dict.fromkeys(texts.values())}
        row[:] = [scores[texts[name]] for name in NAMES]
    return table


def score_summaries(
    documents: Sequence[str], references: Sequence[str], beams: Sequence[Sequence[str]], tokenizer: str
) -> tuple[list[str], np.ndarray]:
    """The chosen beam of each row, and its figures as in `Scored`."""
    chosen = [texts[least_risk(texts, tokenizer)] if len(texts) > 1 else texts[0] for texts in beams]
    table = np.empty((len(chosen), SUMMARY_FIGURES))
    for row, text, document, reference in zip(table, chosen, documents, references, strict=True):
        row[:] = (
            *rouge(tokenizer).scores(text, reference),
            chrf(text, reference),
            *row_statistics(text, document, tokenizer),
        )
    return chosen, table

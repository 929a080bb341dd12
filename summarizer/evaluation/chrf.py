"""chrF (Popović 2015, aclanthology.org/W15-3049) per row, by the `sacrebleu` package: F-scores of characters, so of any script.

It is beside ROUGE because it needs no words: no tokenizer is chosen, and inflected forms count in part.
"""

from __future__ import annotations

from functools import cache
from typing import Any

CHRF = "chrf"


def chrf(prediction: str, reference: str) -> float:
    """chrF2 of one summary, 0 to 1: sacrebleu's sentence score with its defaults (6 characters, no words, case counts)."""
    return float(_metric().sentence_score(prediction, [reference]).score) / 100


@cache
def _metric() -> Any:
    from sacrebleu.metrics.chrf import CHRF as Metric  # 0.2 s, and 13 MB on the disk, most of them lxml's

    return Metric()

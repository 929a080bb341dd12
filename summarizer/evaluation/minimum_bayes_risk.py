"""Of a search's beams the one that agrees best with the others: minimum Bayes risk decoding.

The most probable summary is often a poor one: short, and about one detail. The summary with the least expected risk under the model's
own distribution is safer (Kumar and Byrne 2004, aclanthology.org/N04-1022; for neural models Eikema and Aziz 2022, arXiv
2108.04718; among the beams of one search, Suzgun et al. 2023, arXiv 2211.07634). The risk is 1 - ROUGE, against beams in place
of references: no reference is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from summarizer.evaluation.agreement import agreement
from summarizer.evaluation.rouge import rouge
from summarizer.evaluation.words import choose

MEASURES = 3  # of the utility: ROUGE-1, ROUGE-2, ROUGE-L


def least_risk(texts: Sequence[str], tokenizer: str | None = None) -> int:
    """The number of the text with the highest expected ROUGE-1 + 2 + L against all of them, the first of equals.

    Args:
        texts: the beams of one document, the most probable first. What agrees with an earlier one counts more: of n texts
            the weights are n, n - 1, ..., 1. Ranks, because the scores of beams of unlike length do not compare.
        tokenizer: of `words`, that of the split; None, where there are no references, takes the one that fits the texts.
    """
    different = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    split = rouge(tokenizer or choose(texts)).text
    agreed = agreement([split(text).words for text in different])
    numbers = [different[text] for text in texts]
    agreed = agreed[np.ix_(numbers, numbers)]
    np.fill_diagonal(agreed, MEASURES)
    return int(np.argmax(agreed @ np.arange(len(texts), 0, -1)))

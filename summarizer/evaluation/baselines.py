"""What needs no training: the first sentences or words of a document, a copula rule, the best single sentence.

Sentences end at a full stop, exclamation or question mark, and at a semicolon or colon before a capital, digit, quote
or bracket.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from summarizer.evaluation.rouge import rouge
from summarizer.evaluation.words import PUBLISHED, first_words

SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[;:])\s+(?=[A-Z0-9\"'`“‘(])")
FULL_STOPS = "。！？｡؟۔।॥։።፧፨။។"  # of Chinese, Japanese, Arabic, Urdu, Hindi, Armenian, Amharic, Burmese, Khmer
CLOSING = "”’」』）》"
UNICODE_SENTENCE_END = re.compile(
    rf"{SENTENCE_END.pattern}|(?<=[{FULL_STOPS}])(?![{FULL_STOPS}{CLOSING}])\s*|(?<=[{FULL_STOPS}][{CLOSING}])\s*"
)
IS_A = re.compile(r"^.{0,60}?\b(?:is|are)\s+(?:an?\s+|the\s+)?")
# The article is not held to its word's end ("provides access" loses an a): so were the published figures of debsum
# made, and with it they come out to the last digit; held to it, ROUGE-1 is 0.02 higher.
PROVIDES = re.compile(r"^.{0,40}?\b(?:provides|implements|contains|allows(?: you to)?|offers|includes)\s+(?:an?|the)?")
FIRST_WORDS = (5, 8, 12, 16)
RULE_WORDS = 8
NAMES = ("lead1", "lead3", *(f"first{n}" for n in FIRST_WORDS), "is_a", "oracle")


def sentences(document: str, tokenizer: str = PUBLISHED) -> list[str]:
    """The document's sentences in order; a document without one is its own. With the Unicode tokenizer they also end at the
    marks of other scripts, after which Chinese and Japanese have no space."""
    ends = SENTENCE_END if tokenizer == PUBLISHED else UNICODE_SENTENCE_END
    return [part for part in ends.split(document.strip()) if part] or [document]


def is_a(document: str) -> str:
    """What the first sentence says its subject is (or provides), cut at `RULE_WORDS` words."""
    return what_it_says(sentences(document)[0])


def what_it_says(sentence: str, tokenizer: str = PUBLISHED) -> str:
    for rule in (IS_A, PROVIDES):
        found = rule.match(sentence)
        if found:
            sentence = sentence[found.end() :]
            break
    return first_words(sentence, RULE_WORDS, tokenizer)


def first_sentence_rules(first: str, tokenizer: str = PUBLISHED) -> dict[str, str]:
    """What the two rules write that read the first sentence alone."""
    return {"lead1": first, "is_a": what_it_says(first, tokenizer)}


def summaries_of(document: str, reference: str, tokenizer: str = PUBLISHED) -> dict[str, str]:
    """What each rule in `NAMES` writes. `oracle` reads the reference: it is a ceiling, no rival."""
    parts = sentences(document, tokenizer)
    return {
        **first_sentence_rules(parts[0], tokenizer),
        "lead3": " ".join(parts[:3]),
        **{f"first{n}": first_words(document, n, tokenizer) for n in FIRST_WORDS},
        "oracle": rouge(tokenizer).best_of(parts, reference),
    }


def baselines(documents: Sequence[str], references: Sequence[str]) -> dict[str, list[str]]:
    """Summaries of every rule, by its name in `NAMES`."""
    rows = [summaries_of(d, r) for d, r in zip(documents, references, strict=True)]
    return {name: [row[name] for row in rows] for name in NAMES}

"""What ROUGE counts as a word: the published tokenizer for English, one by Unicode for text that it would lose.

The published one (`rouge_score`: runs of a-z and 0-9, stemmed as English) drops every other letter: Chinese or Russian text has no
word at all, and French accents cut words in two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from unicodedata import normalize

import regex
from nltk.stem.porter import PorterStemmer

Split = Callable[[str], list[str]]
PUBLISHED, UNICODE = "rouge_score", "unicode"
DESCRIPTIONS = {
    PUBLISHED: "rouge_score (runs of a-z and 0-9, stemmed)",
    UNICODE: "unicode (words by Unicode; single characters in scripts without spaces); not comparable with published figures",
}
FOREIGN_SHARE = 0.003
"""Of a split's letters, outside a-z: debsum's English has 0.004 %, Dutch 0.12 %, Italian 0.55 %, French 3.3 % (docs/evaluation.md)."""
REMEMBERED_WORDS = 1 << 18
PUBLISHED_WORD = re.compile(r"[a-z0-9]+")
# Scripts that put no space between words: a character with its marks is a word, as in evaluations of Chinese and Japanese.
UNSPACED = "".join(
    rf"\p{{scx={script}}}" for script in ("Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan")
)
UNICODE_WORD = regex.compile(
    rf"[[\p{{L}}\p{{N}}]&&[{UNSPACED}]]\p{{M}}*|(?:[[\p{{L}}\p{{N}}]--[{UNSPACED}]]\p{{M}}*)+", regex.V1
)
INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200c\u200d\u2060\ufeff"))  # soft hyphen, joiners: they stand inside words
ENGLISH = frozenset(("the", "and", "of", "to", "a", "for", "with", "that", "this", "are"))
ENGLISH_SHARE = 0.05  # of a document's words; debsum's have 0.20, Dutch 0.01, Italian 0.008
LOOKED_AT = 1000  # documents


def choose(texts: Iterable[str]) -> str:
    """The tokenizer for a split with these references, `PUBLISHED` or `UNICODE`: by its letters alone, so always the same one."""
    letters = foreign = 0
    for text in texts:
        found = sum(map(str.isalpha, text))
        letters += found
        if not text.isascii():
            foreign += found - sum(character.isascii() and character.isalpha() for character in text)
    return UNICODE if foreign > FOREIGN_SHARE * letters else PUBLISHED


@lru_cache(maxsize=REMEMBERED_WORDS)
def stem(word: str) -> str:
    return str(_stemmer().stem(word)) if len(word) > 3 else word


@lru_cache(maxsize=1)
def _stemmer() -> PorterStemmer:
    return PorterStemmer()


def published_words(text: str) -> list[str]:
    """The words that `rouge_score` counts before it stems them."""
    return PUBLISHED_WORD.findall(text.lower())


def stemmed_words(text: str) -> list[str]:
    """The words that `rouge_score` counts: runs of a-z and 0-9, those of more than three letters stemmed."""
    return [stem(word) for word in published_words(text)]


def unicode_words(text: str) -> list[str]:
    """Runs of letters, digits and their marks, whatever their case and form; in scripts without spaces each character."""
    folded = normalize("NFKC", normalize("NFKC", text.translate(INVISIBLE)).casefold())
    words: list[str] = UNICODE_WORD.findall(folded)
    return words


def counted_words(tokenizer: str) -> Split:
    """How ROUGE splits a text."""
    return {PUBLISHED: stemmed_words, UNICODE: unicode_words}[tokenizer]


def plain_words(tokenizer: str) -> Split:
    """The same words, none of them stemmed."""
    return {PUBLISHED: published_words, UNICODE: unicode_words}[tokenizer]


def first_words(text: str, count: int, tokenizer: str = PUBLISHED) -> str:
    """The beginning of a text up to its n-th word: between spaces, or as Unicode has it."""
    if tokenizer == PUBLISHED:
        return " ".join(text.split(maxsplit=count)[:count])
    text, end = text.translate(INVISIBLE), 0
    for number, found in enumerate(UNICODE_WORD.finditer(text), 1):
        end = found.end()
        if number == count:
            return text[:end]
    return text


def notices(name: str, references: Sequence[str]) -> list[str]:
    """What to know before a split's scores are reckoned: which tokenizer they have, and whether some rows can only score 0."""
    tokenizer = choose(references)
    said = []
    if tokenizer != PUBLISHED:
        said.append(
            f"{name}: over {FOREIGN_SHARE:.1%} of the references' letters are outside a-z; ROUGE's tokenizer is "
            f"{DESCRIPTIONS[tokenizer]}."
        )
    split = plain_words(tokenizer)
    silent = sum(not split(reference) for reference in references)
    if silent:
        said.append(
            f"{name}: {silent:,} of {len(references):,} references have no word that ROUGE counts (tokenizer {tokenizer}): "
            "these rows score 0. Check data.summary_column, or remove the rows."
        )
    if len(references) > 1 and len(set(references)) == 1:
        said.append(
            f"{name}: all {len(references):,} references are the same text, so a score says nothing of a model. Check "
            "data.summary_column."
        )
    return said


def summary_notices(name: str, summaries: Sequence[str]) -> list[str]:
    """What makes the scores of these summaries say nothing of the documents."""
    empty = sum(not summary.strip() for summary in summaries)
    if empty:
        return [
            f"{name}: {empty:,} of {len(summaries):,} summaries are empty, which score 0: train longer, or raise "
            "generation.min_new_tokens."
        ]
    if len(summaries) > 1 and len(set(summaries)) == 1:
        return [
            f"{name}: all {len(summaries):,} summaries are the same text ({summaries[0][:60]!r}): the model does not mind what it reads, "
            "so its scores say nothing. Train longer, or with another optim.lr."
        ]
    return []


def looks_english(documents: Sequence[str], tokenizer: str) -> bool:
    """Whether the published tokenizer fits and common English words are common."""
    words = [word for document in documents[:LOOKED_AT] for word in published_words(document[:2000])]
    return tokenizer == PUBLISHED and sum(word in ENGLISH for word in words) > ENGLISH_SHARE * len(words)

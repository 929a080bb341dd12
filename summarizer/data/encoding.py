"""One pair as token ids: what is cut, and which special tokens stand where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Characters kept of a document for each token that it may have: far more than any tokenizer needs for prose, and what
# keeps a document of megabytes from being tokenized in full to be cut to a thousandth.
CHARACTERS_PER_TOKEN = 32


@dataclass(frozen=True)
class Encoding:
    """How pairs become ids. Lengths are in tokens and count special tokens."""

    max_source_tokens: int
    max_target_tokens: int
    source_prefix: str = ""
    source_suffix: str = ""
    causal: bool = False

    def described(self) -> dict[str, Any]:
        return asdict(self)


def encode(
    rows: Mapping[str, Sequence[str]], *, tokenizer: PreTrainedTokenizerBase, encoding: Encoding
) -> dict[str, list[list[int]]]:
    """Ids of a batch of rows with the columns document and summary.

    For an encoder-decoder both sides carry the special tokens of the tokenizer's own convention (T5 ends both in EOS,
    BART also begins both with BOS), and a target ends in EOS even where it was cut or the convention has none.

    For a causal model the two sides are read as one sequence: the source keeps the tokenizer's BOS but no EOS, the target is
    plain text and an EOS.
    """
    documents = [document[: encoding.max_source_tokens * CHARACTERS_PER_TOKEN] for document in rows["document"]]
    suffix = _ids(tokenizer, [encoding.source_suffix], None, special=False)[0] if encoding.source_suffix else []
    room = encoding.max_source_tokens - len(suffix)
    texts = [encoding.source_prefix + document for document in documents]
    sources = _ids(tokenizer, texts, room, special=True)
    eos = tokenizer.eos_token_id
    if encoding.causal or suffix:
        sources = [(ids[:-1] if ids[-1:] == [eos] else ids) + suffix for ids in sources]
    if suffix and not encoding.causal:
        sources = [_ended(ids, eos, encoding.max_source_tokens) for ids in sources]
    summaries = list(rows["summary"])
    if encoding.causal:
        targets = _ids(tokenizer, summaries, encoding.max_target_tokens, special=False)
    else:
        targets = tokenizer(
            text_target=summaries, truncation=True, max_length=encoding.max_target_tokens, verbose=False
        )["input_ids"]
    return {"source": sources, "target": [_ended(ids, eos, encoding.max_target_tokens) for ids in targets]}


def _ids(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int | None, *, special: bool) -> list[list[int]]:
    options: dict[str, Any] = {"truncation": True, "max_length": length} if length else {}
    ids: list[list[int]] = tokenizer(
        texts, add_special_tokens=special, return_attention_mask=False, verbose=False, **options
    )["input_ids"]
    return ids


def _ended(ids: list[int], eos: int | None, length: int) -> list[int]:
    """Ids that end in EOS, within the length."""
    if eos is None or ids[-1:] == [eos]:
        return ids
    return [*ids[: length - 1], eos]

"""Generation in batches gives what generation one by one gives, whatever the model's kind of padding."""

from itertools import chain, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import (
    LEDConfig,
    LEDForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from summarizer.errors import HardwareError
from summarizer.evaluation.generation import batches, generate, generation_options, search, summarize_batches, until_end
from summarizer.evaluation.minimum_bayes_risk import least_risk
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration

VOCABULARY = 12  # few, so that a random model ends some of its summaries early
T5_IDS = {"pad_token_id": 0, "eos_token_id": 1}
COPY_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def settings(**given):
    values = {
        "num_beams": 3, "reranking": "none", "length_penalty": 1.0, "no_repeat_ngram_size": 2, "min_new_tokens": 1, "max_new_tokens": 12,
        "packing": "auto", "precision": "32-true",
    }  # fmt: skip
    return SimpleNamespace(**{**values, **given})


def small_t5():
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 1}
    return T5ForConditionalGeneration(
        T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **shape, **T5_IDS)
    ), T5_IDS


def small_copy_transformer():
    shape = {"d_model": 16, "d_ff": 32, "num_heads": 2, "max_target_positions": 16}
    config = CopyTransformerConfig(vocab_size=VOCABULARY, **shape, **COPY_IDS)
    return CopyTransformerForConditionalGeneration(config), COPY_IDS


def small_llama():
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    # pad and end are one id, as for the decoder-only models that come without padding
    ids = {"pad_token_id": 2, "eos_token_id": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, bos_token_id=1, **ids, **shape)), ids


def small_adapter():
    from peft import LoraConfig, TaskType, get_peft_model

    model, ids = small_llama()
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)), ids


def small_led():
    shape = {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_encoder_position_embeddings": 64,
        "max_decoder_position_embeddings": 32, "attention_window": 4,
    }  # fmt: skip
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    return LEDForConditionalGeneration(LEDConfig(vocab_size=VOCABULARY, **shape, **ids)), ids


FAMILIES = {
    "t5": small_t5,
    "copy": small_copy_transformer,
    "causal": small_llama,
    "adapter": small_adapter,
    "led": small_led,
}


def built(family: str):
    """A random model that is likely to end early in some rows and late in others."""
    torch.manual_seed(3)
    model, ids = FAMILIES[family]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model.eval(), SimpleNamespace(pad_token_id=ids["pad_token_id"], eos_token_id=ids["eos_token_id"])


def documents(count: int = 9) -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.integers(3, VOCABULARY, random.integers(3, 14)).astype(np.int32) for _ in range(count)]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_gives_what_one_document_at_a_time_gives(family: str, num_beams: int) -> None:
    model, tokenizer = built(family)
    given = settings(num_beams=num_beams)
    sources = documents()
    together = summarize_batches(model, sources, settings=given, batch_tokens=4096, tokenizer=tokenizer)
    alone = [
        summarize_batches(model, [source], settings=given, batch_tokens=4096, tokenizer=tokenizer)[0]
        for source in sources
    ]
    assert together == alone
    assert len({len(summary) for summary in together}) > 1, "rows of one length would not show what stands after an end"
    assert all(tokenizer.eos_token_id not in summary for summary in together)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_packed_search_writes_what_generate_writes(num_beams: int) -> None:
    model, tokenizer = built("t5")
    packed, padded = (
        summarize_batches(
            model,
            documents(),
            settings=settings(num_beams=num_beams, packing=packing),
            batch_tokens=60,
            tokenizer=tokenizer,
        )
        for packing in ("always", "never")
    )
    assert packed == padded
    assert len({len(summary) for summary in packed}) > 1


class Letters:
    """A tokenizer whose words are single tokens, for models without texts."""

    def __init__(self, ids: SimpleNamespace) -> None:
        self.pad_token_id, self.eos_token_id = ids.pad_token_id, ids.eos_token_id

    def batch_decode(self, rows, skip_special_tokens: bool) -> list[str]:
        return [" ".join(f"w{token}" for token in row) for row in rows]


@pytest.mark.parametrize("packing", ["always", "never"])
def test_reranking_writes_the_beam_of_least_risk_of_each_document(packing: str) -> None:
    model, ids = built("t5")
    tokenizer = Letters(ids)
    alike, best = (
        summarize_batches(
            model,
            documents(),
            settings=settings(num_beams=4, packing=packing, reranking=reranking),
            batch_tokens=80,
            tokenizer=tokenizer,
        )
        for reranking in ("mbr", "none")
    )
    options = generation_options(model, settings(num_beams=4, reranking="mbr"), tokenizer)
    for source, written in zip(documents(), alike, strict=True):
        (beams,) = generate(model, [source], options)
        assert len(beams) == 4
        assert written == beams[least_risk(tokenizer.batch_decode(beams, skip_special_tokens=True))]
    assert alike != best, "here the two rules differ, or this test shows nothing"


def test_a_model_that_cannot_be_packed_is_searched_by_generate_with_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, tokenizer = built("led")
    given = settings(packing="always")
    written = [
        summarize_batches(model, documents(3), settings=given, batch_tokens=4096, tokenizer=tokenizer) for _ in range(2)
    ]
    assert written[0] == written[1]
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "several times slower" in warning
    assert "LEDForConditionalGeneration" in warning


class TooSmall(T5ForConditionalGeneration):
    """A model on a device that holds a few rows at a time, as an allocator would say it."""

    rows = 2

    def generate(self, *, input_ids, **given):
        if len(input_ids) > self.rows:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99999999 bytes.")
        return super().generate(input_ids=input_ids, **given)


def test_a_batch_that_memory_does_not_hold_is_halved_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
    model, tokenizer = built("t5")
    given = {"settings": settings(), "batch_tokens": 4096, "tokenizer": tokenizer}
    expected = summarize_batches(model, documents(), **given)
    model.__class__ = TooSmall
    assert summarize_batches(model, documents(), **given) == expected
    assert "hardware.generation_tokens=" in caplog.text


def test_a_document_that_memory_does_not_hold_is_told_in_a_sentence() -> None:
    model, tokenizer = built("t5")
    model.__class__, model.rows = TooSmall, 0
    with pytest.raises(HardwareError, match="one document of 13 tokens with 3 beams"):
        summarize_batches(model, documents(), settings=settings(), batch_tokens=4096, tokenizer=tokenizer)


def test_what_stands_after_the_first_end_is_cut() -> None:
    assert until_end([5, 6, 1, 7, 0, 0], {0, 1}) == [5, 6]
    assert until_end([5, 6], {0, 1}) == [5, 6]


def test_a_prompt_is_not_part_of_the_summary_and_may_be_quoted() -> None:
    model, tokenizer = built("causal")
    source = np.array([5, 6, 7, 5, 6, 8, 9])
    written = summarize_batches(model, [source], settings=settings(), batch_tokens=4096, tokenizer=tokenizer)[0]
    assert len(written) <= 12
    pairs = list(pairwise(written))
    assert len(pairs) == len(set(pairs)), "no bigram twice in the summary itself"


def test_batches_hold_every_row_once_longest_first_within_the_budget() -> None:
    lengths = [3, 50, 7, 7, 120, 1]
    found = list(batches(lengths, batch_tokens=100, num_beams=2))
    assert sorted(chain.from_iterable(found)) == list(range(6))
    assert found[0] == [4], "what exceeds the budget goes alone"
    assert all(len(rows) == 1 or 2 * len(rows) * max(lengths[i] for i in rows) <= 100 for rows in found)


def test_progress_counts_documents() -> None:
    model, tokenizer = built("copy")
    seen: list[tuple[int, int]] = []
    summarize_batches(
        model, documents(5), settings=settings(num_beams=2), batch_tokens=40, tokenizer=tokenizer,
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (5, 5)
    assert len(seen) > 1


@pytest.mark.parametrize("packing", ["never", "always"])
def test_a_document_is_given_when_its_batch_is_done_and_only_once(packing: str) -> None:
    model, tokenizer = built("copy")
    given: list[int] = []
    seen: list[tuple[int, int]] = []
    search(
        model, documents(5), settings=settings(num_beams=2, packing=packing), batch_tokens=40, tokenizer=tokenizer,
        finished=lambda row, hypotheses: given.append(row), progress=lambda done, total: seen.append((done, len(given))),
    )  # fmt: skip
    assert sorted(given) == list(range(5))
    assert len(seen) > 1
    assert all(done == there for done, there in seen), "what is scored does not wait for the last batch"


def test_no_documents_give_no_summaries() -> None:
    model, tokenizer = built("copy")
    assert summarize_batches(model, [], settings=settings(), batch_tokens=4096, tokenizer=tokenizer) == []

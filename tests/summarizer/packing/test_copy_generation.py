"""The copy transformer's search with memory of fixed size finds the tokens of transformers' generate()."""

from __future__ import annotations

import copy

import pytest
import torch

from summarizer.data.collate import padded
from summarizer.evaluation.generation import wants_packed_search
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.pointer import continuation_features, features_of_beams
from summarizer.packing import generation
from summarizer.packing.generation import PackedGenerator, generation_obstacle
from tests.summarizer.packing.tiny import VOCABULARY, documents, model_of

NEW_TOKENS = 14
END = 2


@pytest.fixture(scope="module")
def model():
    """With what only random weights have: no two beams alike."""
    torch.manual_seed(3)
    shape = {"d_model": 32, "d_ff": 48, "num_heads": 4, "copy_heads": 2, "dropout": 0.0}
    built = CopyTransformerForConditionalGeneration(CopyTransformerConfig(vocab_size=VOCABULARY, **shape)).eval()
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        built.shared.weight.mul_(4)
    return built


def options_of(model, **settings):
    options = copy.deepcopy(model.generation_config)
    fixed = {"max_new_tokens": NEW_TOKENS, "num_beams": 4, "do_sample": False, "max_length": None, "pad_token_id": 0}
    options.update(**(fixed | settings))
    return options


def generate(model, sources, options):
    ids = padded(sources, 0)
    mask = (torch.arange(ids.shape[1])[None] < torch.tensor([len(source) for source in sources])[:, None]).long()
    rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=options)[:, 1:].tolist()
    return [until_end(row) for row in rows]


def until_end(row):
    row = row[: row.index(END) + 1] if END in row else row
    return row[: max((i + 1 for i, token in enumerate(row) if token != 0), default=0)]


SOURCES = [source.copy() for source, _ in documents(9, seed=2)]
for number, source in enumerate(SOURCES):  # a copied end makes summaries of unlike lengths
    source[1 + number :: 4 + number] = END


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_beams": 16, "num_return_sequences": 16, "length_penalty": 0.8, "no_repeat_ngram_size": 2, "min_new_tokens": 3},
        {"num_return_sequences": 3, "early_stopping": True},
        {"num_beams": 1},
        {"num_beams": 1, "no_repeat_ngram_size": 1, "min_new_tokens": 5},
    ],
    ids=str,
)  # fmt: skip
def test_the_tokens_are_those_of_generate_in_their_order(model, settings):
    options = options_of(model, **settings)
    assert generation_obstacle(model, options) is None
    found = PackedGenerator(model, options, slots=4, longest_source=60).hypotheses(SOURCES)
    expected = generate(model, SOURCES, options)
    assert [until_end(row) for beams in found for row in beams] == expected
    assert len({len(row) for row in expected}) > 1


@pytest.mark.parametrize("recorded", [False, True])
def test_documents_leave_when_they_are_done(model, monkeypatch, recorded):
    monkeypatch.setattr(generation, "LOOK_EVERY", 1)
    monkeypatch.setattr(generation, "FEWEST_SLOTS", 1)
    monkeypatch.setattr(generation.Session, "_record", lambda self, extent: None)
    sizes, made = [], generation.Session.__init__

    def counted(self, decoder, settings, count, *rest):
        sizes.append(count)
        made(self, decoder, settings, count, *rest)

    monkeypatch.setattr(generation.Session, "__init__", counted)
    options = options_of(model, num_return_sequences=2)
    generator = PackedGenerator(model, options, slots=8, longest_source=60, recorded=recorded)
    found = generator.hypotheses(SOURCES)
    assert [until_end(row) for beams in found for row in beams] == generate(model, SOURCES, options)
    assert sizes[0] == 8
    assert min(sizes) < 8


def test_one_word_has_the_features_that_the_whole_summary_has_there():
    torch.manual_seed(0)
    sources, written = torch.randint(1, 6, (2, 12)), torch.randint(1, 6, (6, 7))
    sources[1, 9:] = -100
    expected = continuation_features(sources.repeat_interleave(3, 0), written)
    for position in range(7):
        found = features_of_beams(sources, written.view(2, 3, 7), torch.tensor([position]))
        assert torch.equal(found.flatten(0, 1), expected[:, position])


def test_products_in_bfloat16_find_almost_the_same(model):
    options = options_of(model)
    exact = PackedGenerator(model, options, slots=4, longest_source=60).summarize(SOURCES)
    rounded = PackedGenerator(model, options, slots=4, longest_source=60, compute=torch.bfloat16).summarize(SOURCES)
    assert sum(one[0] == other[0] for one, other in zip(exact, rounded, strict=True)) > len(SOURCES) // 2


def test_a_processor_searches_so_unless_the_search_asks_for_more(model, caplog):
    assert wants_packed_search(model, options_of(model), "auto", 1)
    assert not wants_packed_search(model, options_of(model), "never", 1)
    assert not wants_packed_search(model, options_of(model, repetition_penalty=1.3), "auto", 1)
    assert not wants_packed_search(model_of("t5"), options_of(model), "auto", 1000)
    assert not caplog.records
    assert not wants_packed_search(model, options_of(model, repetition_penalty=1.3), "always", 1)
    assert "repetition_penalty" in caplog.text

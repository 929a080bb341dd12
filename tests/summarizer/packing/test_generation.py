"""The packed search finds the tokens that transformers' generate() finds, under each setting; documents leave early."""

import copy

import pytest
import torch

from summarizer.data.collate import padded
from summarizer.packing import generation
from summarizer.packing.beam_search import search_obstacle
from summarizer.packing.generation import PackedGenerator
from tests.summarizer.packing.tiny import FAMILIES, documents, model_of

NEW_TOKENS = 14


def ending_model(family, sources, seed):
    """A model that ends its summaries at different lengths: the end token rivals what it likes to say."""
    for attempt in range(30):
        model = model_of(family, seed=100 * seed + attempt).eval()
        end = model.config.eos_token_id
        said = [token for row in generate(model, sources, options_of(model)) for token in row if token != end]
        if said:
            liked = max(set(said), key=said.count)
            with torch.no_grad():
                head = model.get_output_embeddings().weight
                head[end] = head[liked] + 0.3 * head.std() * torch.randn_like(head[end])
                if hasattr(model, "final_logits_bias"):
                    model.final_logits_bias[0, end] = model.final_logits_bias[0, liked]
        if len({len(row) for row in generate(model, sources, options_of(model))}) > 1:
            return model
    raise AssertionError("no such model found")


def options_of(model, **settings):
    options = copy.deepcopy(model.generation_config)
    options.update(
        max_new_tokens=NEW_TOKENS, num_beams=4, do_sample=False, max_length=None, forced_eos_token_id=None, **settings
    )
    return options


def generate(model, sources, options):
    """transformers' own, cut behind the end token."""
    config = model.config
    ids = padded(sources, config.pad_token_id)
    lengths = torch.tensor([len(source) for source in sources])
    mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
    rows = model.generate(input_ids=ids, attention_mask=mask, generation_config=options)[:, 1:].tolist()
    return [row[: row.index(config.eos_token_id) + 1] if config.eos_token_id in row else row for row in rows]


def trimmed(rows, padding):
    """Without the padding that fills up a batch, of which ours has none."""
    return [row[: max((i + 1 for i, token in enumerate(row) if token != padding), default=0)] for row in rows]


def both(model, sources, options, slots=3):
    generator = PackedGenerator(model, options, slots=slots, longest_source=60)
    padding = model.config.pad_token_id
    return trimmed(generator.summarize(sources), padding), trimmed(generate(model, sources, options), padding)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_beams_find_the_tokens_of_generate(family, early_stopping):
    sources = [source for source, _ in documents(7, seed=2)]
    model = ending_model(family, sources, seed=1)
    ours, theirs = both(model, sources, options_of(model, early_stopping=early_stopping))
    assert ours == theirs


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_every_beam_that_is_asked_for_is_that_of_generate_in_its_order(family):
    sources = [source for source, _ in documents(5, seed=2)]
    model = ending_model(family, sources, seed=1)
    options = options_of(model, num_return_sequences=3)
    found = PackedGenerator(model, options, slots=2, longest_source=60).hypotheses(sources)
    assert [len(beams) for beams in found] == [3] * len(sources)
    flat = [row for beams in found for row in beams]
    padding = model.config.pad_token_id
    assert trimmed(flat, padding) == trimmed(generate(model, sources, options), padding)
    assert len({tuple(row) for row in flat[:3]}) == 3


@pytest.mark.parametrize("family", ["t5", "bart"])
@pytest.mark.parametrize(
    "settings",
    [
        {"no_repeat_ngram_size": 2, "min_new_tokens": 3},
        {"no_repeat_ngram_size": 3, "length_penalty": 2.0},
        {"length_penalty": 0.5, "num_beams": 2},
        {"num_beams": 1},
        {"num_beams": 1, "no_repeat_ngram_size": 1, "min_new_tokens": 5},
        {"forced_bos_token_id": 5, "forced_eos_token_id": 1, "early_stopping": True},
    ],
    ids=str,
)
def test_settings_mean_what_they_mean_to_generate(family, settings):
    sources = [source for source, _ in documents(5, seed=4)]
    model = ending_model(family, sources, seed=3)
    options = options_of(model)
    if "forced_eos_token_id" in settings:
        settings = settings | {"forced_eos_token_id": model.config.eos_token_id}
    options.update(**settings)
    ours, theirs = both(model, sources, options)
    assert ours == theirs


def test_documents_leave_when_they_are_done(monkeypatch):
    monkeypatch.setattr(generation, "LOOK_EVERY", 1)
    sources = [source for source, _ in documents(8, seed=2)]
    model = ending_model("bart", sources, seed=1)
    sizes = []
    made = generation.Session.__init__

    def counted(self, decoder, settings, count, *rest):
        sizes.append(count)
        made(self, decoder, settings, count, *rest)

    monkeypatch.setattr(generation.Session, "__init__", counted)
    ours, theirs = both(model, sources, options_of(model), slots=8)
    assert ours == theirs
    assert sizes[0] == 8
    assert min(sizes) < 8


def test_halved_slots_as_recorded_steps_need_them_give_the_same(monkeypatch):
    monkeypatch.setattr(generation, "LOOK_EVERY", 1)
    monkeypatch.setattr(generation, "FEWEST_SLOTS", 1)
    monkeypatch.setattr(generation.Session, "_record", lambda self, extent: None)
    sources = [source for source, _ in documents(6, seed=2)]
    model = ending_model("t5", sources, seed=1)
    options = options_of(model)
    generator = PackedGenerator(model, options, slots=8, longest_source=60, compiled=False, recorded=True)
    padding = model.config.pad_token_id
    assert trimmed(generator.summarize(sources), padding) == trimmed(generate(model, sources, options), padding)


def test_what_the_search_does_not_do_is_named():
    model = model_of("bart")
    assert search_obstacle(options_of(model)) is None
    assert "do_sample" in search_obstacle(copy.deepcopy(options_of(model)).__class__(do_sample=True, max_new_tokens=3))
    options = options_of(model)
    options.repetition_penalty = 1.3
    assert "repetition_penalty" in search_obstacle(options)

"""The copy transformer by its public surface: forward, generate, save and load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.tokenizer import train_tokenizer

PAD, BEGIN, END, VOCABULARY = 0, 1, 2, 50


def build(seed: int = 0, **settings: object) -> CopyTransformerForConditionalGeneration:
    torch.manual_seed(seed)
    shape = {
        "vocab_size": VOCABULARY,
        "d_model": 32,
        "d_ff": 48,
        "num_heads": 4,
        "max_target_positions": 12,
        "dropout": 0.0,
    }
    return CopyTransformerForConditionalGeneration(CopyTransformerConfig(**{**shape, **settings})).eval()


@pytest.fixture(scope="module")
def model() -> CopyTransformerForConditionalGeneration:
    return build()


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    """Two documents of 9 and 6 tokens with summaries of 5 and 3, some of their words copied and some repeated."""
    torch.manual_seed(1)
    input_ids = torch.randint(3, VOCABULARY, (2, 9))
    labels = torch.randint(3, VOCABULARY, (2, 5))
    labels[0, 1:4] = input_ids[0, 3:6]
    labels[1, 1] = labels[1, 0]
    input_ids[1, 6:], labels[1, 3:] = PAD, -100
    return {"input_ids": input_ids, "attention_mask": (input_ids != PAD).long(), "labels": labels}


def log_probabilities(model: CopyTransformerForConditionalGeneration, batch: dict[str, Tensor]) -> Tensor:
    written = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    with torch.no_grad():
        return model(batch["input_ids"], batch["attention_mask"], decoder_input_ids=written).logits


def greedy_by_full_recomputation(
    model: CopyTransformerForConditionalGeneration, ids: Tensor, mask: Tensor, length: int
) -> Tensor:
    written = torch.full((len(ids), 1), BEGIN)
    ended = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(length):
        with torch.no_grad():
            best = model(ids, mask, decoder_input_ids=written).logits[:, -1].argmax(-1)
        written = torch.cat((written, best.masked_fill(ended, PAD)[:, None]), dim=1)
        ended |= best == END
        if ended.all():
            break
    return written


def test_the_loss_is_minus_the_log_of_the_full_mixture(model, batch):
    with torch.no_grad():
        loss = model(**batch).loss
    logits, labels = log_probabilities(model, batch), batch["labels"]
    expected = torch.nn.functional.nll_loss(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    torch.testing.assert_close(loss, expected)


def test_the_mixture_is_a_distribution(model, batch):
    sums = log_probabilities(model, batch).exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))


def test_words_of_the_document_are_preferred_from_the_start(model, batch):
    probability = log_probabilities(model, batch).exp()[0, 0]
    in_document = torch.zeros(VOCABULARY, dtype=torch.bool).index_fill_(0, batch["input_ids"][0], True)
    assert probability[in_document].sum() > 0.7


def test_padded_labels_carry_no_loss(model, batch):
    wider = torch.nn.functional.pad(batch["labels"], (0, 4), value=-100)
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, model(**{**batch, "labels": wider}).loss)


def test_a_batch_without_labels_to_learn_has_a_loss_of_zero_and_finite_gradients(batch):
    model = build()
    loss = model(**{**batch, "labels": torch.full_like(batch["labels"], -100)}).loss
    loss.backward()
    assert loss == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_label_that_the_document_lacks_has_a_finite_gradient(batch):
    model = build()
    absent = next(i for i in range(3, VOCABULARY) if not (batch["input_ids"] == i).any())
    model(**{**batch, "labels": torch.full_like(batch["labels"], absent)}).loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_padding_changes_nothing(model, batch):
    ids, labels = batch["input_ids"][1:, :6], batch["labels"][1:]
    alone = log_probabilities(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    torch.testing.assert_close(log_probabilities(model, batch)[1:, :3], alone[:, :3], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("cached", [True, False])
def test_greedy_generation_equals_recomputing_every_step(model, batch, cached):
    ids, mask = batch["input_ids"], batch["attention_mask"]
    generated = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False, use_cache=cached)
    assert generated.tolist() == greedy_by_full_recomputation(model, ids, mask, 10).tolist()


def test_cached_steps_give_the_logits_of_a_full_pass(model, batch):
    ids, mask = batch["input_ids"], batch["attention_mask"]
    written = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    full = log_probabilities(model, batch)
    with torch.no_grad():
        encoded = model.encoder(ids, mask)
        first = model(encoder_outputs=encoded, decoder_input_ids=written[:, :2], use_cache=True)
        second = model(
            encoder_outputs=encoded,
            decoder_input_ids=written[:, 2:],
            past_key_values=first.past_key_values,
            written_ids=written,
        )
    torch.testing.assert_close(torch.cat((first.logits, second.logits), dim=1), full, atol=1e-5, rtol=1e-4)


def test_a_cache_without_the_words_written_is_refused(model, batch):
    first = model(
        batch["input_ids"], batch["attention_mask"], decoder_input_ids=torch.tensor([[BEGIN], [BEGIN]]), use_cache=True
    )
    with pytest.raises(ValueError, match="written_ids"):
        model(
            batch["input_ids"], batch["attention_mask"], decoder_input_ids=torch.tensor([[5], [6]]),
            past_key_values=first.past_key_values,
        )  # fmt: skip


def test_each_beam_copies_from_its_own_document(model, batch):
    ids, mask = batch["input_ids"], batch["attention_mask"]
    settings = {"num_beams": 3, "max_new_tokens": 8, "no_repeat_ngram_size": 2, "do_sample": False, "pad_token_id": PAD}
    together = model.generate(ids, attention_mask=mask, **settings)
    for row, length in ((0, 9), (1, 6)):
        alone = model.generate(ids[row : row + 1, :length], attention_mask=mask[row : row + 1, :length], **settings)
        assert [i for i in together[row].tolist() if i != PAD] == [i for i in alone[0].tolist() if i != PAD]


def test_label_smoothing_raises_the_loss_of_a_sharp_vocabulary_only_by_its_share(model, batch):
    with torch.no_grad():
        plain, smoothed, uniform = (model(**batch, label_smoothing=share).loss for share in (0.0, 0.1, 1.0))
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * uniform)


def test_hidden_inputs_are_restored_in_training_only(batch):
    model = build(source_dropout=0.5, target_dropout=0.5, restoration_weight=1.0)
    plain = build()
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).loss, plain(**batch).loss)
        torch.manual_seed(0)
        assert model.train()(**batch).loss > plain.train()(**batch).loss


def test_input_and_output_share_one_embedding_through_a_round_trip(model, batch, tmp_path: Path):
    model.save_pretrained(tmp_path)
    loaded = CopyTransformerForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert loaded.encoder.embed_tokens.weight is loaded.shared.weight
    assert torch.equal(log_probabilities(loaded, batch), log_probabilities(model, batch))


LOAD = """
import sys, torch
from transformers import AutoModelForSeq2SeqLM
if {project}:
    import summarizer.models.copy_transformer
model = AutoModelForSeq2SeqLM.from_pretrained({folder!r}, {options})
assert {project} or not any(name.split(".")[0] == "summarizer" for name in sys.modules)
print(model.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=6, num_beams=2, do_sample=False).tolist())
"""


@pytest.mark.parametrize(("project", "options"), [(True, ""), (False, "trust_remote_code=True")])
def test_a_saved_folder_loads_in_another_process(model, tmp_path: Path, project: bool, options: str):
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    root = str(Path(__file__).parents[3])
    environment = {
        "PYTHONPATH": root if project else "",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "PATH": "",
    }
    command = LOAD.format(project=project, folder=str(folder), options=options)
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = model.generate(torch.tensor([[5, 6, 7, 8]]), max_new_tokens=6, num_beams=2, do_sample=False).tolist()
    assert done.stdout.strip().splitlines()[-1] == str(expected)


def test_it_learns_to_copy_a_span_of_unseen_documents():
    """The summary is the three tokens after a marker: no vocabulary helps, as the test documents are new."""
    marker, length = 3, 3

    def sample(count: int) -> dict[str, Tensor]:
        ids = torch.randint(4, VOCABULARY, (count, 12))
        start = torch.randint(0, 8, (count, 1))
        ids.scatter_(1, start, marker)
        labels = torch.cat((ids.gather(1, start + 1 + torch.arange(length)), torch.full((count, 1), END)), dim=1)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        model(**sample(32)).loss.backward()
        optimizer.step()
    test = sample(50)
    written = model.eval().generate(
        test["input_ids"], attention_mask=test["attention_mask"], max_new_tokens=6, do_sample=False
    )
    right = (written[:, 1 : 1 + length] == test["labels"][:, :length]).all(dim=1).float().mean()
    assert right > 0.9


TEXTS = ["A small library for reading text.", "Tools that write text — naïvely — to files.", "reading files"] * 5


def test_the_tokenizer_restores_any_text_and_ends_it():
    tokenizer = train_tokenizer(TEXTS, 300)
    for text in ["reading text", "Zürich 漢字 \N{GRINNING FACE}", "a  b"]:
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    assert len(tokenizer) <= 300
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 4


def test_a_word_has_the_same_ids_at_the_start_and_inside_of_a_text():
    tokenizer = train_tokenizer(TEXTS, 320)
    first, inside = tokenizer("text")["input_ids"][:-1], tokenizer("reading text")["input_ids"][:-1]
    assert inside[-len(first) :] == first


def test_the_tokenizer_is_the_same_every_time_and_after_loading(tmp_path: Path):
    tokenizer = train_tokenizer(iter(TEXTS), 320)
    assert tokenizer.backend_tokenizer.to_str() == train_tokenizer(TEXTS, 320).backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded("A small library")["input_ids"] == tokenizer("A small library")["input_ids"]
    assert loaded.model_max_length == tokenizer.model_max_length

"""A pack gives what transformers gives for the same documents, padded: logits, loss, gradients, an optimizer step."""

import copy
import logging

import pytest
import torch
import transformers

from summarizer.data.collate import Seq2SeqCollator
from summarizer.packing.anatomy import packing_obstacle, start_token, supports_packing
from summarizer.packing.collate import PackedSeq2SeqCollator
from summarizer.packing.planning import choose_budget
from summarizer.packing.seq2seq import PackedSeq2Seq
from tests.summarizer.packing.tiny import FAMILIES, documents, lengths, model_of


def both(model, pairs, extra_source=150):
    """The same documents as a pack with a tail and as a padded batch."""
    config = model.config
    budget = choose_budget(*lengths(pairs), source_tokens=int(lengths(pairs)[0].sum()) + extra_source)
    pack = PackedSeq2SeqCollator(budget, config.pad_token_id, start_token(config))(pairs)
    batch = Seq2SeqCollator(config.pad_token_id)(pairs)
    return pack, {key: batch[key] for key in ("input_ids", "attention_mask", "labels")}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_those_of_the_padded_model(family):
    model = model_of(family).eval()
    pairs = documents(5)
    pack, batch = both(model, pairs)
    with torch.no_grad():
        expected = model(**batch).logits
        logits = PackedSeq2Seq(model).logits(pack)
    start = 0
    for i, (_, target) in enumerate(pairs):
        torch.testing.assert_close(
            logits[start : start + len(target)], expected[i, : len(target)], atol=1e-5, rtol=1e-5
        )
        start += len(target)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_optimizer_step_is_that_of_the_padded_model(family):
    model = model_of(family)
    packed = copy.deepcopy(model)
    pack, batch = both(model, documents(6, seed=1))
    losses = {}
    for name, trained in (("padded", model), ("packed", packed)):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        losses[name] = model(**batch).loss if name == "padded" else PackedSeq2Seq(packed).loss(pack)
        losses[name].backward()
        optimizer.step()
    torch.testing.assert_close(losses["packed"], losses["padded"], atol=1e-5, rtol=1e-5)
    moved = dict(packed.named_parameters())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            moved[name], weight, atol=2e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_checkpointed_layers_give_the_same_gradients(family):
    model = model_of(family)
    pack, _ = both(model, documents(4))
    gradients = []
    for checkpointed in (False, True):
        model.zero_grad()
        PackedSeq2Seq(model, checkpoint_layers=checkpointed).loss(pack).backward()
        gradients.append([weight.grad.clone() for weight in model.parameters() if weight.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_label_smoothing_is_that_of_torch():
    model = model_of("bart").eval()
    pack, _ = both(model, documents(4))
    run = PackedSeq2Seq(model)
    expected = torch.nn.functional.cross_entropy(
        run.logits(pack), pack["labels"], ignore_index=-100, label_smoothing=0.1
    )
    torch.testing.assert_close(run.loss(pack, label_smoothing=0.1), expected)


def test_dropout_changes_the_loss_and_only_in_training():
    model = model_of("t5", dropout=0.3)
    pack, _ = both(model, documents(4))
    run = PackedSeq2Seq(model)
    assert run.loss(pack) != run.loss(pack)
    model.eval()
    assert run.loss(pack) == run.loss(pack)


def test_a_model_trained_packed_is_saved_and_loaded_as_any_other(tmp_path):
    model = model_of("bart")
    pack, batch = both(model, documents(4))
    PackedSeq2Seq(model).loss(pack).backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    model.save_pretrained(tmp_path)
    again = transformers.BartForConditionalGeneration.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(**batch).loss, PackedSeq2Seq(model.eval()).loss(pack), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_autocast_stays_near_float32(family):
    model = model_of(family).eval()
    pack, _ = both(model, documents(4))
    exact = PackedSeq2Seq(model).loss(pack)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = PackedSeq2Seq(model).loss(pack)
        shorter = PackedSeq2Seq(model, residual_dtype=torch.bfloat16).loss(pack)
    assert rounded.dtype == torch.float32
    assert abs(rounded - exact) < 0.05 * exact
    assert abs(shorter - exact) < 0.1 * exact


def test_other_architectures_are_refused_with_the_reason():
    led = transformers.LEDForConditionalGeneration(
        transformers.LEDConfig(
            vocab_size=50,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            attention_window=8,
            max_encoder_position_embeddings=64,
        )
    )
    assert not supports_packing(led)
    assert "LEDForConditionalGeneration" in packing_obstacle(led)
    model = model_of("bart")
    model.config.encoder_layerdrop = 0.1
    assert "layerdrop" in packing_obstacle(model)


def test_a_back_end_that_does_not_serve_is_replaced_with_one_warning(caplog):
    model = model_of("t5").eval()
    pack, _ = both(model, documents(3))
    run = PackedSeq2Seq(model, attention="flash")
    with caplog.at_level(logging.WARNING):
        loss = run.loss(pack)
        run.loss(pack)
    assert len(caplog.records) == 1
    assert "needs a CUDA device" in caplog.text
    torch.testing.assert_close(loss, PackedSeq2Seq(model).loss(pack))

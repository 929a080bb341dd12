"""Packing as a training loop meets it: who packs, how large a step is, that a run learns as a padded one."""

import copy
import logging

import numpy as np
import torch
import transformers

from summarizer.data.collate import Seq2SeqCollator
from summarizer.packing.anatomy import anatomy_of
from summarizer.packing.arithmetic import training_flops
from summarizer.packing.planning import TrainingPacks
from summarizer.packing.training import PackedLoss, budget_for, packed_collator, wants_packing
from tests.summarizer.packing.tiny import documents, lengths, model_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_who_packs(caplog):
    t5 = model_of("t5")
    led = transformers.LEDForConditionalGeneration(
        transformers.LEDConfig(
            vocab_size=50, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            attention_window=8,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_encoder_position_embeddings=64,
        )
    )  # fmt: skip
    assert wants_packing("auto", t5, CUDA)
    assert not wants_packing("auto", t5, CPU)
    assert wants_packing("always", t5, CPU)
    assert not wants_packing("never", t5, CUDA)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert not wants_packing("auto", led, CUDA)
    assert len(caplog.records) == 1
    assert "several times slower" in caplog.text


def test_a_pack_holds_no_more_documents_than_a_step_is_to_see():
    sources, targets = np.full(1000, 500), np.full(1000, 50)
    small = budget_for(sources, targets, tokens=65536, step_documents=64)
    assert small.documents == 64
    assert small.source_tokens < 1.1 * 64 * 500
    assert budget_for(sources, targets, tokens=65536, step_documents=64, world_size=2).documents == 32
    large = budget_for(sources, targets, tokens=8192, step_documents=64)
    assert large.source_tokens + large.target_tokens <= 8192 * 1.1


def test_a_packed_run_learns_what_a_padded_run_of_the_same_batches_learns():
    pairs = documents(40, seed=5)
    budget = budget_for(*lengths(pairs), tokens=400, step_documents=8)
    model = model_of("bart")
    packed = copy.deepcopy(model)
    collate, pad = packed_collator(packed, budget, 1), Seq2SeqCollator(1)
    loss_of = PackedLoss(packed)
    optimizers = [torch.optim.AdamW(trained.parameters(), lr=1e-3) for trained in (model, packed)]
    curves = []
    for rows in TrainingPacks(*lengths(pairs), budget, seed=0, epochs=6):
        batch = pad([pairs[i] for i in rows])
        losses = (
            model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss,
            loss_of(collate([pairs[i] for i in rows])),
        )
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        curves.append([float(loss.detach()) for loss in losses])
    padded, ours = np.array(curves).T
    assert len(curves) > 10
    np.testing.assert_allclose(ours, padded, rtol=5e-3)
    assert ours[-8:].mean() < ours[:8].mean()


def test_arithmetic_is_six_operations_a_weight_and_token_where_attention_is_small():
    model = model_of("bart")
    anatomy = anatomy_of(model)
    encoder = sum(
        weight.numel() for name, weight in model.named_parameters() if "encoder.layers" in name and weight.dim() == 2
    )
    one = training_flops(model, np.array([1]), np.array([1]))
    two = training_flops(model, np.array([2]), np.array([1]))
    keys = sum(
        part.weight.numel()
        for layer in anatomy.decoder.layers
        for part in (layer.cross_attention.key, layer.cross_attention.value)
    )
    # what is not a product of weights is attention: 32 wide, 2 layers a stack, of two tokens and one
    assert abs((two - one) - 6 * (encoder + keys)) <= 12 * 32 * 2 * (3 + 1)

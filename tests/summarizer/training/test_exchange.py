"""One optimizer step of two processes is the step of one process over all their documents: packed, DDP's way and FSDP's."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from summarizer.data.collate import Seq2SeqCollator
from summarizer.packing.training import PackedLoss, budget_for, packed_collator
from summarizer.training.exchange import StepMean, sum_gradients
from summarizer.training.sharding import shard
from tests.summarizer.packing.tiny import FAMILIES, documents, lengths, model_of
from tests.summarizer.processes import on_two_processes

PASSES = 2  # of one step on each device
pytestmark = pytest.mark.slow


def weights(model):
    full = {
        name: getattr(weight, "full_tensor", lambda weight=weight: weight)()
        for name, weight in model.named_parameters()
    }
    return {name: weight.detach().numpy() for name, weight in full.items()}


def shares():
    """Four packs of unlike numbers of documents and of target tokens, two a rank; the last fills up an odd number."""
    pairs = documents(14, seed=3)
    return [pairs[:1], pairs[1:5], pairs[5:14], []], pairs


def stepped(model, rank, world_size, *, exchanged, **options):
    """Weights after one optimizer step over this rank's packs."""
    packs, pairs = shares()
    budget = budget_for(*lengths(pairs), tokens=900, step_documents=12)
    collate, loss_of = packed_collator(model, budget, model.config.pad_token_id), PackedLoss(model, **options)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    mine = packs[rank::world_size]
    mean = StepMean(passes=len(mine), world_size=world_size, exchanged=exchanged)
    for share in mine:
        pack = collate(share)
        (mean.weighed(loss_of(pack), pack["labels"]) / len(mine)).backward()
    mean.finish(model.parameters())
    optimizer.step()
    return weights(model)


def padded_steps():
    """Weights after the same step by transformers' padded model in DDP's own wrapper."""
    rank, model = torch.distributed.get_rank(), model_of("bart")
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pairs = shares()[1]
    mine = [[pairs[:1], pairs[1:4]], [pairs[4:8], pairs[8:]]][rank]
    mean = StepMean(passes=2, world_size=2, exchanged=True)
    for share, last in zip(mine, (False, True), strict=True):
        batch = Seq2SeqCollator(model.config.pad_token_id)(share)
        with nullcontext() if last else wrapped.no_sync():
            loss = wrapped(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss
            (mean.weighed(loss, batch["labels"]) / len(mine)).backward()
    mean.finish(model.parameters())
    optimizer.step()
    return weights(model)


def expected(model):
    """Weights after one step of transformers' padded model over all documents at once."""
    model = copy.deepcopy(model)
    batch = Seq2SeqCollator(model.config.pad_token_id)(shares()[1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(**{key: batch[key] for key in ("input_ids", "attention_mask", "labels")}).loss.backward()
    optimizer.step()
    return weights(model)


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], atol=2e-5, rtol=1e-4, err_msg=name)


def one_step(families, divided, options):
    rank = torch.distributed.get_rank()
    found = []
    for family in families:
        model = model_of(family)
        if divided:
            shard(model, init_device_mesh("cpu", (2,)))
        found.append(stepped(model, rank, 2, exchanged=divided, **options))
    return found


def test_one_pass_on_one_device_is_left_as_it_is():
    mean, loss = StepMean(passes=1, world_size=1, exchanged=True), torch.tensor(2.0, requires_grad=True)
    assert mean.weighed(loss, torch.tensor([1, 2, 3])) is loss
    mean.finish([torch.nn.Parameter(loss)])


def test_packs_accumulated_on_one_device_are_weighed_by_their_target_tokens():
    model = model_of("bart")
    wanted = expected(model)
    assert_same(stepped(model, 0, 1, exchanged=True), wanted)


@pytest.mark.parametrize(
    ("divided", "options"),
    [
        (False, {}),
        (False, {"recorded": True}),  # on a CPU computed anew, but handed over as a CUDA graph's gradients are
        (True, {}),
        (True, {"checkpoint_layers": True}),
    ],
    ids=["exchanged", "exchanged after a replay", "fsdp", "fsdp, checkpointed"],
)
def test_a_step_of_two_processes_is_the_padded_step_over_all_their_documents(divided, options):
    for ranks in zip(FAMILIES, *on_two_processes(one_step, FAMILIES, divided, options), strict=True):
        family, *found = ranks
        for rank in found:
            assert_same(rank, expected(model_of(family)))


def test_padded_batches_in_ddp_s_wrapper_are_weighed_the_same():
    for found in on_two_processes(padded_steps):
        assert_same(found, expected(model_of("bart")))


def exchanged_in_small_buckets():
    rank = torch.distributed.get_rank()
    shapes = [(7, 3), (100,), (2, 2, 2), (1,)]
    given = [torch.full(shape, float(i + 10 * rank)) for i, shape in enumerate(shapes)]
    given.append(torch.ones(5, dtype=torch.bfloat16))
    return [(tuple(x.shape), str(x.dtype), float(x.float().unique())) for x in sum_gradients(given, bucket_bytes=64)]


def test_gradients_are_summed_in_order_whatever_the_buckets():
    first, second = on_two_processes(exchanged_in_small_buckets)
    assert first == second
    assert [value for *_, value in first] == [10.0, 12.0, 14.0, 16.0, 2.0]
    assert first[0][:2] == ((7, 3), "torch.float32")
    assert first[4][:2] == ((5,), "torch.bfloat16")

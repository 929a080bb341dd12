"""The loss and its scale: a step over several passes is the step over all of their tokens, and a validation the mean over all of its."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from summarizer.data.collate import IGNORED
from summarizer.training.exchange import StepMean, buckets
from summarizer.training.module import SummarizationModule

LABELS = [torch.tensor([[1, 2, IGNORED], [3, IGNORED, IGNORED]]), torch.tensor([[4, 0, 1, 2, 3]])]


class Model(nn.Module):
    """Logits of five words from a table, over the labels' own length; what transformers' models answer."""

    def __init__(self, *, decoder_only: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Parameter(torch.randn(5, 5))
        self.config = SimpleNamespace(is_encoder_decoder=not decoder_only)

    def forward(self, input_ids, attention_mask, labels):
        logits = self.table[input_ids]
        return SimpleNamespace(
            loss=F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED), logits=logits
        )


def batch(labels):
    ids = torch.arange(labels.numel()).view_as(labels) % 5
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "documents": len(ids)}


def module_of(model, **optim):
    settings = SimpleNamespace(**{"label_smoothing": 0.0, "gradient_clip_norm": None, **optim})
    module = SummarizationModule(model, settings, SimpleNamespace(name="linear"), total_steps=10)
    module.said = {}
    module.log = lambda name, value, **options: module.said.__setitem__(name, float(value))
    module._trainer = SimpleNamespace(
        accumulate_grad_batches=1, world_size=1, strategy=None, global_step=0, log_every_n_steps=1
    )
    return module


def gradient_of_all_tokens(model):
    losses = [model(**{k: v for k, v in batch(labels).items() if k != "documents"}).logits for labels in LABELS]
    flat = torch.cat([logits.flatten(0, 1) for logits in losses]), torch.cat([labels.flatten() for labels in LABELS])
    return torch.autograd.grad(F.cross_entropy(*flat, ignore_index=IGNORED), model.table)[0]


@pytest.mark.parametrize("steps", [1, 2])
def test_a_step_of_several_passes_weighs_each_token_alike(steps):
    model = Model()
    wanted = gradient_of_all_tokens(model)
    mean = StepMean(passes=2, world_size=1, exchanged=True)
    for _ in range(steps):  # nothing of the last step is left
        model.table.grad = None
        for labels in LABELS:
            loss = model(**{k: v for k, v in batch(labels).items() if k != "documents"}).loss
            (mean.weighed(loss, labels) / 2).backward()  # the trainer's own division
        mean.finish(model.parameters())
        torch.testing.assert_close(model.table.grad, wanted)


def test_one_pass_is_left_as_it_is_and_a_step_without_tokens_is_no_division_by_nothing():
    model = Model()
    mean = StepMean(passes=1, world_size=1, exchanged=True)
    loss = model(**{k: v for k, v in batch(LABELS[0]).items() if k != "documents"}).loss
    assert mean.weighed(loss, LABELS[0]) is loss
    loss.backward()
    before = model.table.grad.clone()
    mean.finish(model.parameters())
    assert torch.equal(model.table.grad, before)
    empty = StepMean(passes=2, world_size=1, exchanged=True)
    empty.weighed(loss.detach(), torch.full((1, 3), IGNORED))
    empty.finish([*model.parameters(), nn.Parameter(torch.ones(1))])
    assert model.table.grad.isfinite().all()


def test_gradients_are_bucketed_in_order_by_type_and_size():
    gradients = [
        torch.zeros(n, dtype=kind)
        for n, kind in [(4, torch.float32), (4, torch.float32), (1, torch.float32), (9, torch.bfloat16)]
    ]
    shapes = [[(part.numel(), part.dtype) for part in bucket] for bucket in buckets(gradients, 32)]
    assert shapes == [[(4, torch.float32)] * 2, [(1, torch.float32)], [(9, torch.bfloat16)]]
    assert [len(bucket) for bucket in buckets(gradients, 1)] == [1, 1, 1, 1]
    assert list(buckets([], 1)) == []


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("decoder_only", [False, True])
def test_the_loss_is_the_cross_entropy_of_the_tokens_that_are_asked_for(smoothing, decoder_only):
    model, labels = Model(decoder_only=decoder_only), LABELS[0]
    inputs = batch(labels)
    logits = model.table[inputs["input_ids"]]
    wanted = labels
    if (
        decoder_only and smoothing
    ):  # a decoder-only model predicts the next token; without smoothing its own loss shifts
        logits, wanted = logits[:, :-1], labels[:, 1:]
    expected = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)
    torch.testing.assert_close(module_of(model).loss(inputs, smoothing), expected)


def test_a_training_step_gives_and_logs_the_smoothed_loss():
    model = Model()
    module = module_of(model, label_smoothing=0.2)
    loss = module.training_step(batch(LABELS[0]), 0)
    torch.testing.assert_close(loss, module.loss(batch(LABELS[0]), 0.2))
    assert module.said["train/loss"] == pytest.approx(float(loss))
    assert float(loss) != pytest.approx(float(module.loss(batch(LABELS[0]))))


@pytest.mark.parametrize(
    ("step", "every", "logged"), [(0, 5, True), (1, 5, False), (4, 5, True), (8, 5, False), (9, 50, True)]
)
def test_the_first_the_last_and_every_nth_step_are_logged(step, every, logged):
    module = module_of(Model())
    module._trainer.global_step, module._trainer.log_every_n_steps = step, every
    assert module.logs_this_step == logged


def test_a_validation_is_the_mean_over_all_tokens_however_they_are_cut_into_batches():
    model = Model()
    module = module_of(model, label_smoothing=0.3)  # which a validation leaves out
    for _ in range(2):
        for number, labels in enumerate(LABELS):
            module.validation_step(batch(labels), number)
        module.on_validation_epoch_end()
        sums = [
            float(model(**{k: v for k, v in batch(labels).items() if k != "documents"}).loss) * n
            for labels, n in zip(LABELS, (3, 5), strict=True)
        ]
        assert module.said["validation/loss"] == pytest.approx(sum(sums) / 8)
    module.validation_step(batch(torch.full((1, 3), IGNORED)) | {"labels": torch.full((1, 3), IGNORED)}, 0)


@pytest.mark.parametrize(("limit", "clipped"), [(None, False), (1e-3, True), (1e3, False)])
def test_gradients_are_clipped_to_the_norm_that_is_asked_for_and_their_own_is_logged(limit, clipped):
    model = Model()
    module = module_of(model, gradient_clip_norm=limit)
    module.training_step(batch(LABELS[0]), 0).backward()
    norm = float(model.table.grad.norm())
    module.configure_gradient_clipping(torch.optim.SGD(model.parameters(), lr=0.25))
    assert module.said["train/gradient_norm"] == pytest.approx(norm)
    assert module.said["train/lr"] == 0.25
    assert float(model.table.grad.norm()) == pytest.approx(limit if clipped else norm, rel=1e-3)

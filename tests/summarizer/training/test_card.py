"""A job on a card stays on its card, shown without one: the meta device stands for it."""

from __future__ import annotations

import logging
import multiprocessing

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.strategies import SingleDeviceStrategy

from summarizer.hardware import Device, resolve
from summarizer.models.loading import build_model, save_tokenizer
from summarizer.run import Run
from summarizer.stages import Stage, Stages, read_stages
from summarizer.tasks import train as task
from summarizer.tasks.prepare import prepare_data
from summarizer.training import fit as module
from summarizer.training.averaging import AveragedWeights
from tests.summarizer.composition import composed
from tests.summarizer.jobs import TINY, write_corpus

CARD = torch.device("meta")


class Card(SingleDeviceStrategy):
    """Its device is the card, but while it trains: then the processor stands in, since the meta device computes nothing. The
    teardown leaves the module on the processor, as Lightning's does."""

    def __init__(self):
        super().__init__("cpu")
        self.training = False
        self.set_up = []

    @property
    def root_device(self):
        return torch.device("cpu") if self.training else CARD

    def setup_environment(self):
        self.set_up.append(self.lightning_module)

    def setup(self, trainer):
        self.training = True
        super().setup(trainer)

    def teardown(self):
        super().teardown()
        self.training = False


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    home = tmp_path_factory.mktemp("card")
    settings = [
        "trainer.max_epochs=1", "trainer.max_steps=1000", "trainer.validations=2", "hardware.precision=32-true",
        "trainer.validation_samples=2", "generation.num_beams=1",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUMMARIZER_CACHE", str(home / "cache"))
        config = composed(*TINY, *settings, *write_corpus(home / "corpus", train=32))
        resolve(config, [])
        return config, prepare_data(config)


def fitted(prepared, folder, **options):
    config, data = prepared
    run = Run(folder)
    run.logs.mkdir(parents=True, exist_ok=True)
    return module.fit(run, config, data.splits, data.tokenizer, **options)


def test_the_trained_model_is_on_the_card_for_the_test_split_also_where_nothing_was_left_to_train(
    prepared, tmp_path, monkeypatch
):
    cards = []

    def strategy(config, packing):
        cards.append(Card())
        return cards[-1]

    monkeypatch.setattr(module, "strategy_for", strategy)
    model, metrics = fitted(prepared, tmp_path)
    assert metrics["train/steps"] == 4
    assert {parameter.device for parameter in model.parameters()} == {CARD}
    for checkpoint in (tmp_path / "checkpoints").glob("step-*.ckpt"):
        content = torch.load(checkpoint, weights_only=True)
        content["summarizer"]["stopped_early"] = True
        torch.save(content, checkpoint)
    monkeypatch.setattr(pl.Trainer, "fit", None)
    model, _ = fitted(prepared, tmp_path)
    assert {parameter.device for parameter in model.parameters()} == {CARD}
    # this process has taken its own card, and joined the others, all the same
    assert [type(one).__name__ for card in cards for one in card.set_up] == ["SummarizationModule"] * 2


def test_weights_trained_in_bfloat16_are_evaluated_in_the_type_that_task_evaluate_reads(
    prepared, tmp_path, monkeypatch
):
    config, data = prepared
    config = OmegaConf.merge(config, {"hardware": {"precision": "bf16-true"}, "optim": {"ema_decay": 0.9}})
    model, _ = fitted((config, data), tmp_path)
    best = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert weight.equal(best[f"model.{name}"]), name
    # a mean of bfloat16 weights is none itself, unless it was rounded
    assert any(not weight.equal(weight.bfloat16().float()) for weight in model.parameters())


def test_a_training_says_which_limit_ends_it_and_notes_its_stages(prepared, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "logs").mkdir()
    fitted(prepared, tmp_path, stages=Stages(tmp_path / "logs"))
    assert "trainer.max_epochs=1 ends the training at step 4, before trainer.max_steps=1000" in caplog.text
    entered = [stage for _, stage in read_stages(tmp_path / "logs")]
    assert entered == [
        Stage.training, Stage.validation, Stage.training, Stage.validation, Stage.training, Stage.test,
    ]  # fmt: skip


def test_steps_are_recorded_on_one_card_where_nothing_in_the_loss_waits_for_it(prepared):
    config, data = prepared

    def records(model=None, **hardware):
        on_card = {"accelerator": "cuda", "compile": True, **hardware}
        changed = OmegaConf.merge(config, {"hardware": on_card, "trainer": {"devices": on_card.pop("devices", 1)}})
        model = model or build_model(changed.model, data.tokenizer, "sdpa")
        return module.records(changed, model), module.collator_for(changed, data.tokenizer, model)

    recorded, collator = records()
    assert recorded
    widths = {name: tensor.shape[1] for name, tensor in collator([(range(40), range(10))]).items() if name in WIDTHS}
    assert widths == {"input_ids": 64, "attention_mask": 64, "labels": 16}
    assert not records(compile=False)[0]
    assert not records(devices=2)[0]
    assert not records(accelerator="cpu")[0]
    assert not records(Waits())[0]


WIDTHS = ("input_ids", "attention_mask", "labels")


class Waits(torch.nn.Module):
    """Says nothing of itself."""

    class config:
        model_type = "t5"


class Line(pl.LightningModule):
    """One weight, whose every step adds 1 to it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((3,), 256.0))
        self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
        self.seen = []

    def training_step(self, batch, batch_idx):
        return -self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.seen.append(self.weight.detach().clone())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=2.0)

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(8, 1), batch_size=1)

    val_dataloader = train_dataloader


def trained(average, model=None, **options):
    model = model or Line()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    options = {
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
        "val_check_interval": 4,
        "limit_val_batches": 1,
        **options,
    }
    trainer = pl.Trainer(max_epochs=1, callbacks=[average], inference_mode=False, **quiet, **options)
    trainer.fit(model)
    return model


def test_the_average_of_weights_is_where_the_strategy_has_moved_them():
    class MovesAway(SingleDeviceStrategy):
        def model_to_device(self):
            self.model.to(CARD)

        def teardown(self):
            pass  # nothing can be moved back from the meta device

    average = AveragedWeights(0.9)
    trained(average, strategy=MovesAway("cpu"), limit_val_batches=0)
    assert {name: tensor.device for name, tensor in average.average.items()} == {"weight": CARD}


def test_the_average_of_bfloat16_weights_is_kept_in_float32_and_validated():
    average = AveragedWeights(0.99)
    model = trained(average, precision="bf16-true")
    # 256, 258, ...: the first step's, then a hundredth of each difference, of which bfloat16 would keep none
    expected = [258.0]
    for step in range(2, 9):
        expected.append(0.99 * expected[-1] + 0.01 * (256 + 2 * step))
    assert average.average["weight"].dtype == torch.float32
    torch.testing.assert_close(average.average["weight"], torch.full((3,), expected[-1]))
    assert [float(seen[0]) for seen in model.seen] == [
        float(torch.tensor(expected[i]).bfloat16()) for i in (3, 7)
    ]  # the weights went on from their own values, not from the average's
    assert float(model.weight.detach()[0]) == float(torch.tensor(expected[-1]).bfloat16())


def test_a_checkpoint_holds_the_average_under_every_name_of_a_tied_weight():
    class Tied(Line):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Module()
            self.head.weight = self.weight

    model, average = Tied(), AveragedWeights(0.9)
    trained(average, model)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.weight.data.fill_(7.0)
    checkpoint = {"state_dict": model.state_dict()}
    average.on_save_checkpoint(None, model, checkpoint)
    assert all(tensor.equal(state[name]) for name, tensor in checkpoint["state_dict"].items())
    other, restored = Tied(), AveragedWeights(0.9)
    other.load_state_dict(checkpoint["state_dict"])
    restored.on_load_checkpoint(None, other, checkpoint)
    assert float(other.weight[0]) == float(other.head.weight[0]) == 7.0
    assert restored.average["weight"].equal(average.average["weight"])


def test_each_process_of_several_cards_makes_the_settings_of_one(prepared, tmp_path, monkeypatch):
    config, data = prepared
    config = OmegaConf.merge(config, {"hardware": {"accelerator": "cuda"}})
    run = Run(tmp_path)
    run.write_config(config, [])
    save_tokenizer(data.tokenizer, run.tokenizer)
    done = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("summarizer.hardware.devices", lambda: [Device("cuda", "H100", 2, 80.0)])
    monkeypatch.setattr("summarizer.hardware.avoid_plans_by_shape", lambda: done.append("plans"))
    monkeypatch.setattr(task, "keep_freed_memory", lambda: done.append("memory"))
    monkeypatch.setattr(task, "prepare_data", lambda *arguments, **options: data)
    monkeypatch.setattr(task, "train_prepared", lambda *arguments, **options: done.append("training"))
    task.worker(str(tmp_path))
    assert done == ["plans", "memory", "training"]


def test_a_training_that_ends_early_leaves_no_process_that_makes_batches(prepared, tmp_path, monkeypatch):
    class WithWorkers(module.SummarizationData):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options | {"workers": 1})

    def stop(*_):
        assert multiprocessing.active_children()
        raise RuntimeError("asked to stop")

    monkeypatch.setattr(module, "SummarizationData", WithWorkers)
    monkeypatch.setattr(module.SummarizationModule, "on_validation_end", stop)
    with pytest.raises(RuntimeError, match="asked to stop"):
        fitted(prepared, tmp_path)
    assert multiprocessing.active_children() == []

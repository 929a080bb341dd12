"""The command as a user meets it: composition, errors in one sentence, a fast start. All through a real process."""

import json
import os
import subprocess
import sys

import pytest
from hydra.errors import CompactHydraException
from hydra.version import VersionBase
from omegaconf import OmegaConf

from summarizer.command_line import quote_numeric_options
from summarizer.composition_errors import sentence
from summarizer.paths import config_dir, option_settings
from tests.summarizer.composition import composed

GROUPS = {path.name for path in config_dir().iterdir() if path.is_dir()}
CARDS = ["3090", "4090", "t4", "l4", "a100", "a100_80gb", "h100", "h200"]


def summarizer(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "summarizer", *arguments], capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize(
    ("argument", "shaped"),
    [
        ("hardware=4090", "hardware='4090'"),
        ("hardware=4090,a100,3090", "hardware='4090',a100,'3090'"),
        ("hardware=choice(4090,a100)", "hardware=choice('4090',a100)"),
        ("seed=4090", "seed=4090"),
        ("optim.lr=1", "optim.lr=1"),
        ("-m", "-m"),
    ],
)
def test_numeric_options_of_groups_are_quoted_and_nothing_else_is(argument, shaped):
    assert quote_numeric_options(argument, GROUPS) == shaped


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_the_flag_of_a_sweep_may_stand_anywhere(flag, tmp_path):
    alone = {**os.environ, "VAST_API_KEY": "", "HOME": str(tmp_path), "LAUNCHERS_HOME": str(tmp_path / "home")}
    done = summarizer("hardware=4090", "provider=vast", flag, "seed=1,2", env=alone)
    assert done.returncode != 0
    assert "No Vast.ai key" in done.stderr, "the sweep was composed, and only the key is missing"


@pytest.mark.parametrize("arguments", [["hardware=4090"], ["hardware=3090", "model=bart_large"]])
def test_a_card_that_is_named_by_a_number_composes(arguments):
    done = summarizer(*arguments, "--cfg", "job")
    assert OmegaConf.create(done.stdout).hardware.name == arguments[0].partition("=")[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model=t5_smal"], ["t5_small"]),
        (["modell=tiny"], ["model"]),
        (["optim.lrr=1"], ["optim.lr"]),
        (["trainer.max_step=5"], ["trainer.max_steps"]),
        (["optim.lr=fast"], ["optim.lr", "Float"]),
        (["data.max_train_samples=many"], ["data.max_train_samples"]),
        (["optim.lr"], ["key=value"]),
        (["hydra/launcher=basic"], ["provider=", "hydra/launcher="]),
        (["hardware.precision=16"], ["bf16"]),
        (["generation.num_beams=0"], ["generation.num_beams"]),
        (["scheduler.warmup_steps=50", "trainer.max_steps=50"], ["warmup_steps", "max_steps"]),
        (["data.streaming=true", "data=docstrings"], ["streaming"]),
        (["task=predict"], ["input="]),
        (["task=evaluate"], ["run="]),
        (["input=a.txt"], ["task=predict"]),
        (["resume=/no/such/job"], ["resume=/no/such/job", "config.yaml"]),
        (["data=files"], ["data.train_file"]),
        (["model.max_source_tokens=100000"], ["tokens_per_step"]),
        (["model=t5_small", "model.shape.d_model=64"], ["model.shape.d_model", "unused with this model"]),
        (["model=t5_small", "model.lora={r: 1}"], ["model.lora", "unused with this model"]),
        (["optim.gradient_clip_norm=-1"], ["optim.gradient_clip_norm=-1", "above 0"]),
        (["seed=-1"], ["seed=-1", "at least 0"]),
        (["evaluation.splits=[dev]"], ["evaluation.splits", "validation"]),
        (["model=bart_base", "model.max_source_tokens=2048"], ["model.max_source_tokens=2048", "1024", "bart_base"]),
    ],
)
def test_bad_input_ends_in_one_sentence_that_names_the_place_and_the_mend(arguments, words, tmp_path):
    done = summarizer(*arguments, f"hydra.sweep.dir={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    sentences = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(sentences) == 1
    for word in words:
        assert word in sentences[0]
    assert not list(tmp_path.glob("out/[0-9]*"))


def test_an_error_in_a_sentence_of_its_own_is_not_replaced_by_what_it_was_made_of():
    def fail() -> None:
        try:
            try:
                raise ConnectionRefusedError(111, "Connection refused")
            except OSError:
                raise ValueError("Vast.ai does not answer: check the network.") from None
        except ValueError as error:
            raise CompactHydraException(str(error)) from error

    with pytest.raises(CompactHydraException) as raised:
        fail()
    assert sentence(raised.value) == "Vast.ai does not answer: check the network."


def test_help_lists_every_group_and_option():
    text = summarizer("--help").stdout
    for group in GROUPS:
        for option in (config_dir() / group).glob("*.yaml"):
            assert option.stem in text


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["model=t5_smal"]])
def test_nothing_heavy_is_imported_before_a_job_starts(arguments):
    heavy = ["torch", "transformers", "pytorch_lightning", "datasets", "pyarrow", "wandb", "modal", "paramiko", "numpy"]
    program = (
        "import sys, json\n"
        "from summarizer.__main__ import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize(
    "option", sorted(f"{g}={o.stem}" for g in GROUPS for o in (config_dir() / g).glob("*.yaml") if g not in ("task",))
)
def test_every_option_composes_and_resolves(option):
    assert OmegaConf.to_container(composed(option), resolve=True)["model"]["name"]


def test_composing_here_leaves_hydra_at_the_version_that_others_ask_of_it(monkeypatch):
    base = VersionBase.instance()
    monkeypatch.setattr(base, "version_base", asked := object())
    composed()
    assert base.version_base is asked


@pytest.mark.parametrize(("card", "batch"), [("4090", 16), ("a100", 32), ("a100_80gb", 64), ("h100", 64)])
def test_rented_cards_train_with_bigger_batches_more_samples_and_more_epochs(card, batch):
    here, there = (composed("model=t5_base", "data=cnn_dailymail", f"hardware={h}") for h in ("cpu", card))
    assert here.trainer.batch_size in (4, 5, 6)
    assert there.trainer.batch_size == batch
    assert (here.data.max_train_samples, there.data.max_train_samples) == (10_000, 50_000)
    assert 5 <= here.trainer.max_epochs <= 8 < there.trainer.max_epochs == 15
    # the optimizer sees the same number of documents a step everywhere, so one learning rate serves all
    assert here.optim.effective_batch_size == there.optim.effective_batch_size


@pytest.mark.parametrize("card", CARDS)
def test_every_card_names_itself_for_the_launchers_and_never_uses_fp16(card):
    hardware = composed(f"hardware={card}").hardware
    assert hardware.gpu
    assert hardware.memory_gib
    assert hardware.precision in ("32-true", "bf16-mixed")


@pytest.mark.parametrize("option", sorted(file.stem for file in (config_dir() / "hardware").glob("*.yaml")))
def test_an_option_read_from_its_file_inherits_what_it_does_when_composed(option):
    hardware = OmegaConf.to_container(composed(f"hardware={option}").hardware)
    assert option_settings(config_dir() / "hardware" / f"{option}.yaml").items() <= hardware.items()

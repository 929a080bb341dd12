"""Every hub model option, trained for two steps from a hub on loopback, evaluated, exported, loaded back and pushed."""

import json

import pytest
import yaml

from summarizer.paths import config_dir
from tests.emulators.hub import serve
from tests.summarizer.hub_contents import write_model
from tests.summarizer.jobs import job_folder, summarizer, write_corpus

pytestmark = [pytest.mark.slow, pytest.mark.turns(12)]
OPTIONS = ["t5_small", "t5_base", "flan_t5_base", "bart_base", "bart_large", "pegasus", "led", "llm_lora"]
SHORT = [
    "data=files", "hardware=cpu", "trainer.threads=1", "generation.num_beams=2", "generation.max_new_tokens=8", "trainer.max_steps=2",
    "trainer.validations=1", "trainer.batch_size=4", "optim.effective_batch_size=4", "model.max_source_tokens=128",
    "model.max_target_tokens=16", "evaluation.bootstrap_samples=20", "callbacks.progress=false", "hardware.workers=1",
]  # fmt: skip


def hub_id(option):
    return yaml.safe_load((config_dir() / "model" / f"{option}.yaml").read_text())["hub_id"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def hub(home):
    for option in OPTIONS:
        write_model(home / "hub", hub_id(option))
    with serve(home / "hub") as running:
        yield running


@pytest.fixture(scope="module")
def corpus(home):
    return write_corpus(home / "corpus", train=12, validation=4, test=4)


def connected(hub, home, **more):
    return {"HF_ENDPOINT": hub.address, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", **more}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_hub_model_trains_and_its_folder_loads(option, hub, corpus, home, tmp_path):
    folder = job_folder(summarizer(*SHORT, *corpus, f"model={option}", cwd=tmp_path, **connected(hub, home)))
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["train/steps"] == 2
    assert metrics["train/loss"] > 0
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    auto = AutoModelForCausalLM if option == "llm_lora" else AutoModelForSeq2SeqLM
    model, tokenizer = auto.from_pretrained(folder / "model"), AutoTokenizer.from_pretrained(folder / "model")
    written = model.generate(**tokenizer(["This program is a parser."], return_tensors="pt"), max_new_tokens=5)
    assert written.shape[0] == 1
    if option.startswith("t5") or option.startswith("flan"):
        assert model.config.decoder_start_token_id == tokenizer.pad_token_id == 0
        tied = model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr()
        assert tied == (not option.startswith("flan"))


@pytest.mark.parametrize("option", ["t5_small", "bart_base", "llm_lora"])
def test_a_packed_run_learns_what_a_padded_one_does(option, hub, corpus, home, tmp_path):
    # dropout off, one step that sees all documents: the same gradient whichever way they are laid out
    same = [
        f"model={option}",
        "model.dropout=0.0",
        "trainer.batch_size=12",
        "optim.effective_batch_size=12",
        "trainer.max_steps=1",
    ]
    if option == "llm_lora":
        same.append("model.lora.dropout=0.0")
    losses = {}
    for packing in ("always", "never"):
        arguments = [*SHORT, *corpus, *same, f"trainer.packing={packing}"]
        folder = job_folder(summarizer(*arguments, cwd=tmp_path, **connected(hub, home)))
        losses[packing] = json.loads((folder / "metrics.json").read_text())
    for key in ("train/loss", "train/gradient_norm", "validation/loss"):
        assert losses["always"][key] == pytest.approx(losses["never"][key], rel=2e-3), key
    assert losses["always"]["train/non_padding_share"] != losses["never"]["train/non_padding_share"]


@pytest.mark.parametrize(("option", "tied"), [("t5_small", True), ("flan_t5_base", False)])
def test_fresh_weights_keep_the_shape_and_the_ties_of_the_hub_s(option, tied, hub, corpus, home, tmp_path):
    arguments = [*SHORT, *corpus, f"model={option}", "model.pretrained=false"]
    folder = job_folder(summarizer(*arguments, cwd=tmp_path, **connected(hub, home)))
    from transformers import AutoModelForSeq2SeqLM

    model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model")
    assert model.config.d_model == 32
    assert (model.lm_head.weight.data_ptr() == model.shared.weight.data_ptr()) == tied


def test_a_finished_model_is_pushed_and_the_token_is_written_nowhere(hub, corpus, home, tmp_path):
    arguments = [*SHORT, *corpus, "model=bart_base", "export.push_to_hub=someone/short"]
    done = summarizer(*arguments, cwd=tmp_path, **connected(hub, home, HF_TOKEN=hub.token))
    pushed = home / "hub" / "models" / "someone" / "short" / "main"
    assert {"model.safetensors", "config.json", "README.md", "tokenizer.json"} <= {
        path.name for path in pushed.iterdir()
    }
    files = [path for path in job_folder(done).rglob("*") if path.is_file()]
    assert len(files) > 8
    assert not [path for path in files if hub.token.encode() in path.read_bytes()]
    assert hub.token not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["model.hub_id=someone/nothing"], {}, "neither the hub nor this machine has it"),
        ([], {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "/nonexistent"}, "local folder"),
        (["export.push_to_hub=someone/short"], {"HF_TOKEN": "hf_wrong"}, "HF_TOKEN"),
        (["model.positions=null", "model.max_source_tokens=4000"], {}, "model.max_source_tokens is 4000"),
        (["model.positions=null", "generation.max_new_tokens=1500"], {}, "generation.max_new_tokens is 1500"),
    ],
)
def test_what_the_hub_refuses_ends_in_one_sentence(arguments, environment, words, hub, corpus, home, tmp_path):
    environ = connected(hub, home) | environment
    done = summarizer(*SHORT, *corpus, "model=bart_base", *arguments, cwd=tmp_path, check=False, **environ)
    assert done.returncode == 2
    errors = [line for line in done.stdout.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert words in errors[0]
    assert "Traceback" not in done.stdout


def test_a_tokenizer_of_another_model_is_refused(hub, corpus, home, tmp_path):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    mixed = tmp_path / "mixed"
    root = home / "hub" / "models"
    AutoTokenizer.from_pretrained(root / hub_id("bart_base") / "main").save_pretrained(mixed)
    AutoModelForSeq2SeqLM.from_pretrained(root / hub_id("t5_small") / "main").save_pretrained(mixed)
    arguments = [*SHORT, *corpus, "model=t5_small", f"model.hub_id={mixed}"]
    done = summarizer(*arguments, cwd=tmp_path, check=False, **connected(hub, home))
    assert done.returncode == 2
    assert "take both from one model.hub_id" in done.stdout

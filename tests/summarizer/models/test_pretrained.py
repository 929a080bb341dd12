"""Models of a hub or folder that are damaged, incomplete, unknown or of two minds: one sentence each, never random weights."""

import json
import re
import shutil

import pytest
from safetensors.torch import load_file, save_file

from summarizer.errors import ModelError
from summarizer.models.loading import build_model, check_model, load_tokenizer, load_trained
from tests.summarizer.composition import composed
from tests.summarizer.hub_contents import write_model

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FAMILIES = ("t5_small", "flan_t5_base", "bart_base", "pegasus", "led", "llm_lora")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A function that gives the folder of a family's tiny model, made once."""
    root, folders = tmp_path_factory.mktemp("models"), {}

    def folder(option):
        if option not in folders:
            hub_id = composed(f"model={option}", "hardware=cpu").model.hub_id
            write_model(root, hub_id)
            folders[option] = root / "models" / hub_id / "main"
        return folders[option]

    return folder


@pytest.fixture
def model(made, tmp_path):
    """A function that gives a copy of a family's folder, to be damaged."""

    def copy(option="t5_small"):
        shutil.copytree(made(option), tmp_path / "model", dirs_exist_ok=True)
        return tmp_path / "model"

    return copy


def configured(folder, option="t5_small", *overrides):
    short = ("hardware=cpu", "model.max_source_tokens=64", "model.max_target_tokens=16")
    return composed(f"model={option}", f"model.hub_id={folder}", *short, *overrides).model


def build(folder, option="t5_small", *overrides):
    cfg = configured(folder, option, *overrides)
    check_model(cfg, download=True)
    return build_model(cfg, load_tokenizer(cfg, lambda: []))


def reweigh(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reconfigure(folder, file="config.json", **values):
    known = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(known | values))


def refused(folder, option="t5_small", *overrides):
    with pytest.raises(ModelError) as caught:
        build(folder, option, *overrides)
    assert "\n" not in str(caught.value)
    cfg = configured(folder, option, *overrides)
    if "tokenizer " not in str(caught.value):
        with pytest.raises(
            ModelError, match=re.escape(str(caught.value))
        ):  # in the first second, of files on this machine
            check_model(cfg, download=False)
    return str(caught.value)


@pytest.mark.parametrize("option", FAMILIES)
def test_every_family_loads_and_none_may_lack_a_trained_tensor(option, model):
    folder = model(option)
    build(folder, option)
    # what a family ties, or makes itself, may be in no file; any other matrix may not
    ends = ("wi_0.weight", "wi.weight", "fc1.weight", "gate_proj.weight")
    gone = []
    reweigh(folder, lambda weights: gone.append(next(name for name in sorted(weights) if name.endswith(ends))))
    reweigh(folder, lambda weights: weights.pop(gone[0]))
    words = refused(folder, option)
    assert "its weights lack" in words
    assert gone[0].partition(".")[2] in words


def test_what_pegasus_makes_itself_may_be_missing(model):
    folder = model("pegasus")

    def without_positions(weights):
        for name in [name for name in weights if "embed_positions" in name]:
            weights.pop(name)

    reweigh(folder, without_positions)
    loaded = build(folder, "pegasus")
    assert not loaded.get_encoder().embed_positions.weight.requires_grad  # nor is it trained


def test_many_missing_tensors_are_some_names_and_a_number(model):
    folder = model()
    reweigh(folder, lambda weights: [weights.pop(name) for name in list(weights) if "decoder" in name])
    assert "more tensors, which would be random numbers" in refused(folder)


def test_a_finished_job_s_model_that_lacks_a_tensor_is_refused(model):
    folder = model()
    reweigh(folder, lambda weights: weights.pop("encoder.final_layer_norm.weight"))
    with pytest.raises(ModelError, match=r"lack encoder\.final_layer_norm\.weight, .*; download or export"):
        load_trained(folder)


def test_weights_that_the_configuration_has_no_place_for_are_named(model, caplog):
    folder = model()
    reconfigure(folder, num_layers=1)
    build(folder)
    assert "encoder.block.1.layer.0" in caplog.text
    assert "they are left out" in caplog.text


def rename_tokenizer(folder):
    reconfigure(folder, "tokenizer_config.json", tokenizer_class="NewerTokenizer")
    (folder / "tokenizer.json").rename(folder / "newer.model")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: reconfigure(folder, d_model=64), "32 in the weights, but .*64 by config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(POINTER), "model.safetensors is a git-lfs pointer"),
        (lambda folder: (folder / "tokenizer.json").write_bytes(POINTER), "tokenizer.json is a git-lfs pointer"),
        (lambda folder: (folder / "config.json").write_bytes(POINTER), "config.json is a git-lfs pointer"),
        (lambda folder: halve(folder / "model.safetensors"), "model.safetensors is cut off or damaged .*copy the model anew"),
        (lambda folder: halve(folder / "tokenizer.json"), "tokenizer.json is no whole JSON file"),
        (lambda folder: halve(folder / "config.json"), "config.json is no whole JSON file"),
        (lambda folder: reconfigure(folder, model_type="newer"), "model_type newer is not known .*pip install -U transformers"),
        (lambda folder: reconfigure(folder, model_type="bert"), "cannot be loaded"),
        (
            lambda folder: reconfigure(folder, "tokenizer.json", model={"type": "Newer", "x": 1}),
            "tokenizer .*cannot be loaded by .*tokenizers.*newer versions",
        ),
        (rename_tokenizer, "tokenizer_class NewerTokenizer is not known .*pip install -U transformers"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    ],
)  # fmt: skip
def test_a_damaged_or_unknown_model_is_one_sentence_with_advice(change, words, model):
    import re

    folder = model()
    change(folder)
    assert re.search(words, refused(folder))


@pytest.mark.parametrize("asked", ["all-linear", "q_proj", "[q_proj,v_proj]", "q_proj, v_proj", r".*\.(q|v)_proj"])
def test_layers_of_an_adapter_are_named_alone_as_a_list_or_by_an_expression(asked, made):
    from omegaconf import OmegaConf
    from transformers import AutoModelForCausalLM

    from summarizer.models.adapters import with_adapter

    base = AutoModelForCausalLM.from_pretrained(made("llm_lora"))
    adapted = with_adapter(base, OmegaConf.create({"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": asked}))
    layers = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert layers >= {"q_proj"}
    assert ("v_proj" in layers) == (asked != "q_proj")
    assert ("down_proj" in layers) == (asked == "all-linear")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("no_such", "no layer is called no_such; the model has down_proj, .*q_proj"),
        ("[q_proj,no_such]", "no layer is called no_such"),
        ("'.*none.*'", "matches the path of no layer"),
        ("'*_proj'", "neither names nor a regular expression"),
    ],
)
def test_an_adapter_for_no_layer_is_refused_with_the_names_there_are(asked, words, made):
    import re

    assert re.search(words, refused(made("llm_lora"), "llm_lora", f"model.lora.target_modules={asked}"))

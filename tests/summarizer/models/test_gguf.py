"""Models in a GGUF file: the numbers of the file, dequantized; what is no such file is one sentence."""

import json

import gguf
import numpy as np
import pytest
import torch

from summarizer.errors import ModelError
from summarizer.models.loading import build_model, check_model, finished_model, load_tokenizer, load_trained
from tests.summarizer.composition import composed
from tests.summarizer.hub_contents import byte_level_bpe

WIDTH, INNER, HEADS, LAYERS = 64, 96, 2, 2
FILE = "tiny.Q8_0.gguf"


def write_gguf(path, seed=0):
    """A Llama with random weights, its matrices in eight bits; returns what each tensor holds after dequantization."""
    texts = ["This program is a parser of small files.", "That library reads large files."] * 4
    tokenizer = json.loads(byte_level_bpe(texts, {"eos_token": "<|endoftext|>"}, None).to_str())
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    end = tokens.index("<|endoftext|>")
    writer.add_bos_token_id(end)
    writer.add_eos_token_id(end)
    shapes = {"token_embd": (len(tokens), WIDTH), "output_norm": (WIDTH,)}
    for layer in range(LAYERS):
        shapes |= {f"blk.{layer}.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        shapes |= {f"blk.{layer}.ffn_{name}": (INNER, WIDTH) for name in ("gate", "up")}
        shapes |= {f"blk.{layer}.ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{layer}.{name}_norm": (WIDTH,) for name in ("attn", "ffn")}
    draw, held = np.random.default_rng(seed), {}
    for name, shape in shapes.items():
        values = draw.normal(size=shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0 if len(shape) == 2 else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(values, kind)
        held[name] = gguf.quants.dequantize(stored, kind)
        writer.add_tensor(f"{name}.weight", stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gguf")
    return folder, write_gguf(folder / FILE)


def settings(*overrides):
    short = ("hardware=cpu", "model.max_source_tokens=64", "model.max_target_tokens=16")
    return composed("model=llm_lora", *short, *overrides).model


def build(model):
    check_model(model, download=True)
    tokenizer = load_tokenizer(model, lambda: [])
    return build_model(model, tokenizer), tokenizer


@pytest.mark.parametrize("named", ["a file", "a folder and a name"])
def test_the_model_is_the_files_numbers_dequantized_and_its_tokenizer(named, made):
    folder, held = made
    where = [f"model.hub_id={folder}/{FILE}"]
    if named != "a file":
        where = [f"model.hub_id={folder}", f"model.gguf_file={FILE}"]
    model, tokenizer = build(settings(*where))
    weights = dict(model.get_base_model().named_parameters())
    embedded = weights["model.embed_tokens.weight"]
    assert embedded.dtype is torch.float32
    np.testing.assert_array_equal(embedded.detach().numpy(), held["token_embd"])
    down = weights["model.layers.1.mlp.down_proj.base_layer.weight"]
    np.testing.assert_array_equal(down.detach().numpy(), held["blk.1.ffn_down"])
    text = "This library reads small files."
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_what_was_trained_from_it_is_a_folder_in_transformers_own_form(made, tmp_path):
    model, tokenizer = build(settings(f"model.hub_id={made[0]}/{FILE}"))
    with torch.no_grad():
        model.get_submodule("base_model.model.model.layers.0.mlp.down_proj.lora_B.default").weight.fill_(0.1)
    finished = finished_model(model).eval()
    finished.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = load_trained(tmp_path)
    ids = torch.tensor([tokenizer("This program is a parser.")["input_ids"]])
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, finished(input_ids=ids).logits)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


def test_a_file_that_is_not_there_names_those_that_are(made):
    with pytest.raises(
        ModelError, match=rf"other\.gguf is not there \(GGUF files there: {FILE}\): check model\.gguf_file\."
    ):
        build(settings(f"model.hub_id={made[0]}", "model.gguf_file=other.gguf"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "is cut off or damaged"),
        (lambda whole: b"PK" + whole[2:], "is no GGUF file"),
        (lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (lambda whole: b"", "is no GGUF file"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_sentence(change, words, made, tmp_path):
    (tmp_path / FILE).write_bytes(change((made[0] / FILE).read_bytes()))
    with pytest.raises(ModelError, match=words):
        build(settings(f"model.hub_id={tmp_path}/{FILE}"))

"""A decoder-only model learns from a pack what it learns from the padded batch: the summary, each with its document."""

import copy

import peft
import pytest
import torch
import transformers

from summarizer.data.collate import CausalCollator
from summarizer.packing.causal import PackedCausal, causal_packing_obstacle
from summarizer.packing.collate import PackedCausalCollator
from summarizer.packing.planning import choose_budget
from tests.summarizer.packing.tiny import VOCABULARY, documents, lengths

SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def model_of(kind, adapted):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**SHAPE))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6)
    if not adapted:
        return model
    lora = peft.LoraConfig(
        r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type=peft.TaskType.CAUSAL_LM,
        init_lora_weights=False,
    )  # fmt: skip
    return peft.get_peft_model(model, lora)


def both(pairs):
    budget = choose_budget(*lengths(pairs), source_tokens=int(lengths(pairs)[0].sum()) + 100)
    batch = CausalCollator(0)(pairs)
    return PackedCausalCollator(budget, 0)(pairs), {
        key: batch[key] for key in ("input_ids", "attention_mask", "labels")
    }


@pytest.mark.parametrize("kind", ["Qwen2Config", "LlamaConfig"])
@pytest.mark.parametrize("adapted", [False, True])
def test_one_optimizer_step_is_that_of_the_padded_model(kind, adapted):
    model = model_of(kind, adapted)
    packed = copy.deepcopy(model)
    pack, batch = both(documents(5))
    losses = []
    for trained, loss in ((model, lambda: model(**batch).loss), (packed, lambda: PackedCausal(packed).loss(pack))):
        optimizer = torch.optim.SGD([weight for weight in trained.parameters() if weight.requires_grad], lr=0.1)
        losses.append(loss())
        losses[-1].backward()
        optimizer.step()
    torch.testing.assert_close(losses[1], losses[0], atol=1e-5, rtol=1e-5)
    moved = dict(packed.named_parameters())
    for name, weight in model.named_parameters():
        assert torch.allclose(moved[name], weight, atol=1e-4, rtol=1e-4), name


def test_generation_is_as_before():
    model = model_of("Qwen2Config", adapted=False).eval()
    ids = torch.randint(4, VOCABULARY, (2, 9))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    before = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, num_beams=2)
    PackedCausal(model)
    assert torch.equal(model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=5, num_beams=2), before)


def test_windows_and_other_architectures_are_refused_with_the_reason():
    gpt2 = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=20, n_embd=8, n_layer=1, n_head=1))
    assert "gpt2" in causal_packing_obstacle(gpt2)
    windowed = transformers.MistralConfig(**SHAPE, sliding_window=4)
    model = transformers.AutoModelForCausalLM.from_config(windowed)
    assert "window" in causal_packing_obstacle(model)

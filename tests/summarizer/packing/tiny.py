"""Tiny models of each family with random weights, and documents for them: what the tests of packing share."""

import numpy as np
import torch
import transformers

VOCABULARY = 97
SIZES = {"t5": "T5", "gated_t5": "T5", "bart": "Bart", "pegasus": "Pegasus", "mbart": "MBart"}
FAMILIES = tuple(SIZES)


def config_of(family, dropout=0.0):
    if SIZES[family] == "T5":
        return transformers.T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=16,
            d_ff=48,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=20,
            dropout_rate=dropout,
            feed_forward_proj="gated-gelu" if family == "gated_t5" else "relu",
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=family == "t5",
        )
    return getattr(transformers, f"{SIZES[family]}Config")(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=80,
        dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        scale_embedding=family != "bart",
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=None,
    )


def model_of(family, dropout=0.0, seed=0):
    torch.manual_seed(seed)
    model = getattr(transformers, f"{SIZES[family]}ForConditionalGeneration")(config_of(family, dropout))
    if family == "gated_t5":  # fresh models may come tied whatever their config says
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # fresh weights attend evenly, and an even average hides mistakes
            if SIZES[family] != "T5" and weight.dim() == 2 and "embed" not in name and "shared" not in name:
                weight.mul_(8)
            elif weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.normal_(std=0.3)
    return model


def documents(count, seed=0, longest_source=60, longest_target=12):
    """Pairs of ids without special tokens; the first source is the longest there may be."""
    rng = np.random.default_rng(seed)
    sources, targets = rng.integers(3, longest_source + 1, count), rng.integers(2, longest_target + 1, count)
    sources[0] = longest_source
    return [
        (rng.integers(4, VOCABULARY, a).astype(np.int32), rng.integers(4, VOCABULARY, b).astype(np.int32))
        for a, b in zip(sources, targets, strict=True)
    ]


def lengths(pairs):
    return np.array([len(source) for source, _ in pairs]), np.array([len(target) for _, target in pairs])

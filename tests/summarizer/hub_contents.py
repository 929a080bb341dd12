"""Tiny repositories under the real ids: data sets with the real columns, models of the real families with random weights.

All texts are made up here. Importing this imports torch and transformers.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as parquet

from tests.summarizer.jobs import made_up_pairs

# hub id -> revision, folder in it, columns of document, summary and (or None) id, splits
PARQUET = "refs/convert/parquet"
DATASETS = {
    "abisee/cnn_dailymail": ("main", "3.0.0", "article", "highlights", "id", ("train", "validation", "test")),
    "EdinburghNLP/xsum": (PARQUET, "default", "document", "summary", "id", ("train", "validation", "test")),
    "knkarthick/samsum": ("main", None, "dialogue", "summary", "id", ("train", "validation", "test")),
    "alexfabbri/multi_news": (PARQUET, "default", "document", "summary", None, ("train", "validation", "test")),
    "FiscalNote/billsum": ("main", "data", "text", "summary", None, ("train", "test", "ca_test")),
    "ccdv/arxiv-summarization": ("main", "document", "article", "abstract", None, ("train", "validation", "test")),
    "ccdv/pubmed-summarization": ("main", "document", "article", "abstract", None, ("train", "validation", "test")),
}
CONFIGS = {"3.0.0", "document"}  # of these, the card of the repository names the files, as the real ones do
ROWS = {"train": 40, "validation": 6, "test": 6, "ca_test": 6}


def write_dataset(root: Path, hub_id: str) -> None:
    """A data set in the layout of the real one: one Parquet file a split."""
    revision, config, document, summary, key, splits = DATASETS[hub_id]
    folder = root / "datasets" / hub_id / quote(revision, safe="")
    parts = []
    for seed, split in enumerate(splits):
        rows = [
            {document: row["document"], summary: row["summary"], **({key: row["id"]} if key else {}), "extra": 1}
            for row in made_up_pairs(ROWS[split], seed)
        ]
        if split == "train":
            rows.append({**rows[0], summary: None})  # real sets hold rows that are no pairs
        path = f"{split}-00000-of-00001.parquet"
        if revision == PARQUET:
            path = f"{split}/0000.parquet"
        target = folder / (config or "") / path
        target.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), target)
        parts.append(f"  - split: {split}\n    path: {config}/{split}-*")
    if config in CONFIGS:
        files = "\n".join(parts)
        other = f"- config_name: other\n  data_files:\n  - split: train\n    path: {config}/test-*\n"
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {config}\n  data_files:\n{files}\n{other}---\n")


def byte_level_bpe(texts: list[str], specials: dict[str, str], template: str | None):
    """A byte-level BPE tokenizer as BART, LED and most decoder-only models have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(unk_token=specials.get("unk_token")))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = list(dict.fromkeys(specials.values()))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=400, special_tokens=tokens, initial_alphabet=alphabet, show_progress=False)
    )
    if template:
        pairs = [(token, tokenizer.token_to_id(token)) for token in tokens]
        tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=pairs)
    return tokenizer


def unigram(texts: list[str], specials: dict[str, str]):
    """A Unigram tokenizer as SentencePiece makes it for T5 and PEGASUS: every text ends in </s>."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=list(specials.values()), unk_token=specials["unk_token"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = specials["eos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {end}", special_tokens=[(end, tokenizer.token_to_id(end))])
    return tokenizer


SENTENCEPIECE = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
BART = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
CAUSAL = {"eos_token": "<|endoftext|>"}  # and no padding token, as many decoder-only models
SMALL = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
FEED = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}


def write_model(root: Path, hub_id: str) -> None:
    """Configuration, weights and tokenizer of a tiny model of the family that the id names."""
    import torch
    import transformers as t

    texts = [text for row in made_up_pairs(60, seed=9) for text in (row["document"], row["summary"])]
    family = next(name for name in ("flan-t5", "t5", "bart", "pegasus", "led", "Qwen") if name in hub_id)
    if family in ("flan-t5", "t5"):
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=unigram(texts, SENTENCEPIECE), **SENTENCEPIECE)
        shape = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False} if family == "flan-t5" else {}
        config = t.T5Config(vocab_size=len(tokenizer) + 8, **shape, **gated)
    elif family == "pegasus":
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=unigram(texts, SENTENCEPIECE), **SENTENCEPIECE)
        config = t.PegasusConfig(
            vocab_size=len(tokenizer), max_position_embeddings=1024, **SMALL, **FEED, decoder_start_token_id=0, pad_token_id=0,
            eos_token_id=1,
        )  # fmt: skip
    elif family == "Qwen":
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(texts, CAUSAL, None), **CAUSAL)
        config = t.Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=2048, eos_token_id=0, bos_token_id=0,
        )  # fmt: skip
    else:
        tokenizer = t.PreTrainedTokenizerFast(tokenizer_object=byte_level_bpe(texts, BART, "<s> $A </s>"), **BART)
        ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
        if family == "led":
            config = t.LEDConfig(
                vocab_size=len(tokenizer), max_encoder_position_embeddings=16384, max_decoder_position_embeddings=1024,
                attention_window=[64], **SMALL, **FEED, **ids,
            )  # fmt: skip
        else:
            config = t.BartConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **SMALL, **FEED, **ids)
    auto = t.AutoModelForCausalLM if family == "Qwen" else t.AutoModelForSeq2SeqLM
    folder = root / "models" / hub_id / "main"
    model = auto.from_config(config)
    if family == "flan-t5":  # its checkpoints have output embeddings of their own, which transformers gives no fresh model
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.05)
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

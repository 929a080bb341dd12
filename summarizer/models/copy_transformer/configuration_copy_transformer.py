"""Shape and special tokens of a copy transformer."""

from __future__ import annotations

from typing import ClassVar

from transformers import PreTrainedConfig


class CopyTransformerConfig(PreTrainedConfig):
    """Everything that a copy transformer is built from; the defaults make a model of about 2 million parameters.

    Args:
        d_model: units of every hidden state; a multiple of `2 * num_heads`.
        d_ff: hidden units of the feed-forward layers.
        copy_heads: pointers over the source, each with its own weight in the output mixture.
        dropout: probability, after the embeddings and at the end of every sublayer.
        source_dropout: probability with which an encoder input is replaced by the pad embedding while training; the
            pointers still see the token.
        target_dropout: likewise for the words already written (Bowman et al. 2016, arXiv 1511.06349).
        restoration_weight: weight of a second training loss that has the encoder restore the replaced inputs (Devlin et
            al. 2019, arXiv 1810.04805); 0 trains without.
        max_source_positions, max_target_positions: tokens that the model was trained with. Positions are rotary: longer
            sequences work, untried.
    """

    model_type = "copy_transformer"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "decoder_layers",
    }

    vocab_size: int = 4000
    d_model: int = 128
    d_ff: int = 384
    num_heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    copy_heads: int = 2
    dropout: float = 0.1
    source_dropout: float = 0.0
    target_dropout: float = 0.0
    restoration_weight: float = 0.0
    max_source_positions: int = 128
    max_target_positions: int = 32
    initializer_range: float = 0.02
    use_cache: bool = True
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    decoder_start_token_id: int | None = 1


__all__ = ["CopyTransformerConfig"]

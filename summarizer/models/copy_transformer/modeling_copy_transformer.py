"""An encoder-decoder that mixes words of its vocabulary with words pointed at in the document.

The output is the mixture of See et al. 2017 (pointer-generator, arXiv 1704.04368), with a transformer (Vaswani et al.
2017, arXiv 1706.03762) in place of the recurrent network and several pointers in place of one:

    P(y) = w_0 softmax(vocabulary)(y) + sum_c w_c sum_i copy_c(i) [source_i = y]

Training needs P of the reference's words only, so it never forms this distribution over the whole vocabulary.

Shapes: B documents (or beams), S source tokens, T target tokens, D = `d_model`, V = `vocab_size`, C = `copy_heads`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import Seq2SeqLMOutput
from transformers.utils.generic import ModelOutput

from .configuration_copy_transformer import CopyTransformerConfig
from .layers import CopyTransformerDecoderLayer, CopyTransformerEncoderLayer, rotary_angles
from .places import Places
from .pointer import Pointer, PointerKeys, continuation_features
from .vocabulary import looked_up, word_log_probabilities

IGNORED = -100
TINY = 1e-12


def shift_tokens_right(labels: Tensor, pad_token_id: int, decoder_start_token_id: int) -> Tensor:
    """Decoder inputs [B, T] for labels [B, T]: the start token, then the labels but the last; -100 becomes padding."""
    shifted = F.pad(labels[:, :-1], (1, 0), value=decoder_start_token_id)
    return shifted.masked_fill(shifted == IGNORED, pad_token_id)


@dataclass
class CopyEncoderOutput(ModelOutput):
    """The encoded documents, with what pointing at them needs; `generate` repeats all of it for the beams.

    last_hidden_state, copy_keys: [B, S, D]; source_ids: [B, S]; replaced: [B, S], true where training hid an input.
    """

    last_hidden_state: Tensor | None = None
    copy_keys: Tensor | None = None
    source_ids: Tensor | None = None
    replaced: Tensor | None = None


class CopyTransformerPreTrainedModel(PreTrainedModel):
    config: CopyTransformerConfig
    config_class = CopyTransformerConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    # transformers declares both of these as attributes of an object
    _no_split_modules: list[str] | None = ["CopyTransformerEncoderLayer", "CopyTransformerDecoderLayer"]  # noqa: RUF012
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.initializer_range)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        if isinstance(shares := getattr(module, "shares", None), Tensor):
            nn.init.zeros_(shares)
        if isinstance(module, Pointer):
            # start as a copier that continues spans: the vocabulary's softmax is of no use before its words are learned
            features, bias = torch.zeros_like(module.feature_weight), torch.zeros_like(module.gate_bias)
            features[:, :2], bias[0] = 2.0, -1.0 - math.log(module.heads)
            nn.init.zeros_(module.gate_weight)
            if not getattr(module.feature_weight, "_is_hf_initialized", False):
                module.feature_weight.copy_(features)
            if not getattr(module.gate_bias, "_is_hf_initialized", False):
                module.gate_bias.copy_(bias)


class CopyTransformerEncoder(CopyTransformerPreTrainedModel):
    """Documents to hidden states and copy keys."""

    def __init__(self, config: CopyTransformerConfig, embed_tokens: nn.Embedding) -> None:
        super().__init__(config)
        self.embed_tokens = embed_tokens
        self.layers = nn.ModuleList(CopyTransformerEncoderLayer(config) for _ in range(config.encoder_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.pointer_keys = PointerKeys(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        return_dict: bool = True,
        replaced: Tensor | None = None,
        embedded: Tensor | None = None,
        **kwargs: Any,
    ) -> CopyEncoderOutput:
        """input_ids, attention_mask, replaced: [B, S]. Attentions and hidden states of the layers are not given out.

        Args:
            replaced: true where an input is hidden; None draws it while training.
            embedded: [B, S, D], the embeddings of the inputs as they are shown; None looks them up.
        """
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if replaced is None and self.training:
            replaced = drawn(input_ids, self.config.source_dropout)
        if embedded is None:
            embedded = self.embed_tokens(hidden(input_ids, replaced, self.config))
        x = self.dropout(embedded * self.config.d_model**0.5)
        keep, mask = attention_mask[:, :, None].to(x.dtype), attention_mask[:, None, None, :].bool()
        angles = rotary_angles(x.shape[1], self.config.d_model // self.config.num_heads, x)
        for layer in self.layers:
            x = layer(x, angles, keep, mask)
        x = self.norm(x)
        if replaced is not None:
            replaced = replaced & attention_mask.bool()
        return CopyEncoderOutput(
            last_hidden_state=x,
            copy_keys=self.pointer_keys(x),
            source_ids=input_ids.masked_fill(attention_mask == 0, IGNORED),
            replaced=replaced,
        )


def drawn(ids: Tensor, probability: float) -> Tensor | None:
    """Which of the ids to hide, each with the given probability; None: no one."""
    return torch.rand(ids.shape, device=ids.device) < probability if probability else None


def hidden(ids: Tensor, replaced: Tensor | None, config: CopyTransformerConfig) -> Tensor:
    """`ids` with padding where they are replaced."""
    assert config.pad_token_id is not None
    return ids if replaced is None else ids.masked_fill(replaced, config.pad_token_id)


class CopyTransformerForConditionalGeneration(CopyTransformerPreTrainedModel, GenerationMixin):
    """The whole model. `smooths_labels` tells a training loop that `forward` takes `label_smoothing`, `adds_up` that a
    batch can be computed in parts, `waits_for_nothing` that a loss on a card can be recorded."""

    smooths_labels = waits_for_nothing = True
    _tied_weights_keys: dict[str, str] = {"encoder.embed_tokens.weight": "shared.weight"}  # noqa: RUF012

    def __init__(self, config: CopyTransformerConfig) -> None:
        super().__init__(config)
        self.shared = nn.Embedding(config.vocab_size, config.d_model)
        self.encoder = CopyTransformerEncoder(config, self.shared)
        self.layers = nn.ModuleList(CopyTransformerDecoderLayer(config, i) for i in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.pointer = Pointer(config)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.shared

    def set_input_embeddings(self, value: nn.Module) -> None:
        assert isinstance(value, nn.Embedding)
        self.shared = self.encoder.embed_tokens = value

    def get_output_embeddings(self) -> None:
        """None: the output is the input embedding itself, no layer of its own."""

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        padding, start = self.config.pad_token_id, self.config.decoder_start_token_id
        assert padding is not None
        assert start is not None
        return shift_tokens_right(labels, padding, start)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *args: Any, **kwargs: Any) -> dict[str, Any]:
        # declared for a class with more abilities than this one has, which it does not use
        inputs = GenerationMixin.prepare_inputs_for_generation(cast(Any, self), cast(Any, input_ids), *args, **kwargs)
        return {**inputs, "written_ids": input_ids}

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        encoder_outputs: CopyEncoderOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        written_ids: Tensor | None = None,
        label_smoothing: float = 0.0,
        replaced: Tensor | None = None,
        replaced_targets: Tensor | None = None,
        words_of_batch: tuple[int, int] | None = None,
        static_shapes: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Loss if `labels` are given, else the log-probabilities of the next word.

        Args:
            input_ids, attention_mask: [B, S]; the ids may be left out where `encoder_outputs` are given.
            decoder_input_ids: [B, T]; where left out, made from `labels`. With `past_key_values`, the new words only.
            labels: [B, T], -100 where no loss is wanted.
            written_ids: [B, all words so far], needed only beside `past_key_values`.
            label_smoothing: share of the loss that asks the vocabulary's softmax to be uniform (Szegedy et al. 2016,
                arXiv 1512.00567).
            replaced, replaced_targets, words_of_batch: of `whole_batch`, for a part of one; None: the batch is whole.
            static_shapes: make a loss of tensors whose shapes follow from those of the arguments, so that nobody waits for the
                device; None: anywhere but on a processor, which has less to compute without.

        Returns:
            `loss`, the mean -log P over the labels, and no logits; or `logits` [B, T, V], the logarithm of P.

        Raises:
            ValueError: neither labels nor decoder inputs, or a cache without the words written so far.
        """
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("a copy transformer needs decoder_input_ids or labels.")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        hidden_share = 1.0
        if replaced is None and self.training and encoder_outputs is None:
            assert input_ids is not None
            hidden_share = self.config.source_dropout
            replaced = drawn(input_ids, hidden_share)
        if replaced_targets is None and self.training:
            replaced_targets = drawn(decoder_input_ids, self.config.target_dropout)
        written, table = hidden(decoder_input_ids, replaced_targets, self.config), self.shared.weight
        if encoder_outputs is None:
            assert input_ids is not None
            read = hidden(input_ids, replaced, self.config)
            rows, table = looked_up(table, torch.cat((read.flatten(), written.flatten())))
            of_source, of_target = rows.split([read.numel(), written.numel()])
            embedded = of_target.view(*written.shape, -1)
            encoder_outputs = self.encoder(
                input_ids, attention_mask, replaced=replaced, embedded=of_source.view(*read.shape, -1)
            )
        else:
            embedded = self.shared(written)
        states, keys, source_ids = (
            encoder_outputs.last_hidden_state, encoder_outputs.copy_keys, encoder_outputs.source_ids
        )  # fmt: skip
        assert states is not None
        assert keys is not None
        assert source_ids is not None
        source_mask = (source_ids != IGNORED)[:, None, None, :]
        if past_key_values is None and use_cache:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        start = past_key_values.get_seq_length() if past_key_values is not None else 0
        if start and written_ids is None:
            raise ValueError("a copy transformer with past_key_values needs written_ids, the whole summary so far.")
        x = self.decode(embedded, states, source_mask, past_key_values, start)
        features = continuation_features(source_ids, decoder_input_ids if written_ids is None else written_ids)
        copy, weights = self.pointer(x, keys, features[:, -x.shape[1] :], source_mask)
        loss = logits = None
        if labels is not None:
            is_static = not x.is_cpu if static_shapes is None else static_shapes
            loss = self.loss(
                x,
                copy,
                weights,
                encoder_outputs,
                labels,
                label_smoothing,
                words_of_batch,
                table,
                is_static,
                hidden_share,
            )
        else:
            vocabulary = F.linear(x, self.shared.weight).float()
            logits = mixture_log_probabilities(vocabulary, copy, weights, source_ids)
        return Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            encoder_last_hidden_state=cast(torch.FloatTensor, states),
        )

    def decode(
        self, embedded: Tensor, source: Tensor, source_mask: Tensor, cache: EncoderDecoderCache | None, start: int
    ) -> Tensor:
        """Hidden states [B, T, D] of the decoder for embeddings [B, T, D] of words that follow `start` cached ones."""
        length = embedded.shape[1]
        x = self.dropout(embedded * self.config.d_model**0.5)
        angles = rotary_angles(length, self.config.d_model // self.config.num_heads, x, start)
        mask = None
        if start and length > 1:
            mask = torch.ones(length, start + length, dtype=torch.bool, device=x.device).tril(start)
        for layer in self.layers:
            x = layer(x, angles, mask, source, source_mask, cache)
        return self.norm(x)

    def loss(
        self,
        x: Tensor,
        copy: Tensor,
        log_weights: Tensor,
        encoded: CopyEncoderOutput,
        labels: Tensor,
        label_smoothing: float,
        words_of_batch: tuple[int, int] | None,
        table: Tensor,
        is_static: bool,
        hidden_share: float,
    ) -> Tensor:
        """Mean -log P of the labels, plus the weighted mean cross-entropy of the inputs that training hid from the encoder,
        from what it made of their neighbors.

        Args:
            x: [B, T, D], decoder states. copy: [B, C, T, S]. log_weights: [B, T, 1 + C]. labels: [B, T].
            words_of_batch: over how many words the two means go; None: those that are here.
            table: [V, D], the words' embeddings.
            is_static, hidden_share: of `Places`, the second for the inputs to restore.
        """
        states, source_ids = encoded.last_hidden_state, encoded.source_ids
        assert states is not None
        assert source_ids is not None
        counted = Places(labels != IGNORED, is_static=is_static)
        rows, words, restored = [counted.of(x)], [counted.words(labels)], None
        if encoded.replaced is not None and self.config.restoration_weight:
            restored = Places(encoded.replaced, is_static=is_static, share=hidden_share)
            rows.append(restored.of(states))
            words.append(restored.words(source_ids))
        # one product with the vocabulary for both, of the rows that count
        own, all_words = word_log_probabilities(torch.cat(rows), table, torch.cat(words))
        own, restoration = own.split([len(rows[0]), len(own) - len(rows[0])])
        pointed = counted.of(pointed_at(copy, source_ids, labels))
        # a floor, as the gradient of log 0 is no number; 1e-12 is far below what a softmax over the vocabulary gives a word
        parts = torch.cat((own[:, None], (pointed + TINY).log()), dim=-1)
        losses = -(parts + counted.of(log_weights)).logsumexp(dim=-1)
        if label_smoothing:
            mean_logit = F.linear(rows[0].float(), self.shared.weight.float().mean(dim=0, keepdim=True)).squeeze(-1)
            uniform = all_words[: len(losses)] - mean_logit
            losses = (1 - label_smoothing) * losses + label_smoothing * uniform
        of_labels, of_restored = words_of_batch or (None, None)
        loss = counted.mean(losses, of_labels)
        if restored is not None:
            loss = loss - self.config.restoration_weight * restored.mean(restoration, of_restored)
        return loss

    @property
    def adds_up(self) -> bool:
        """Whether losses and gradients of a training batch's parts add up to its own; dropout draws anew in each part."""
        return self.config.dropout == 0

    def whole_batch(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Any]:
        """What `forward` must be told, beside its rows, of a training batch that is computed in parts: which inputs are
        hidden (of all rows), and over how many words the means go."""
        replaced = drawn(input_ids, self.config.source_dropout)
        restored = 0 if replaced is None else int((replaced & attention_mask.bool()).sum())
        return {
            "replaced": replaced,
            "replaced_targets": drawn(labels, self.config.target_dropout),
            "words_of_batch": (int((labels != IGNORED).sum()), restored),
        }


def pointed_at(copy: Tensor, source_ids: Tensor, words: Tensor) -> Tensor:
    """[B, T, C]: what each pointer gives, over all places of the source, to words [B, T]."""
    here = (source_ids[:, None, :] == words[:, :, None]).to(copy.dtype)
    return torch.einsum("bcts,bts->btc", copy, here)


def mixture_log_probabilities(vocabulary: Tensor, copy: Tensor, log_weights: Tensor, source_ids: Tensor) -> Tensor:
    """log P over the whole vocabulary, [B, T, V]; arguments as for `mixture_loss`."""
    weights = log_weights.exp()
    pointed = torch.einsum("bcts,btc->bts", copy, weights[:, :, 1:])
    mixed = vocabulary.softmax(dim=-1) * weights[:, :, :1]
    index = source_ids.masked_fill(source_ids == IGNORED, 0)[:, None, :].expand_as(pointed)
    return mixed.scatter_add(-1, index, pointed).clamp(min=torch.finfo(mixed.dtype).tiny).log()


__all__ = ["CopyTransformerForConditionalGeneration"]

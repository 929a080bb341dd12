"""A transformers encoder-decoder run on packs: its own weights, its own results, no padding.

The pass is written out of the model's parameters instead of calling its modules: the modules know no packs, build dense
masks, and differ between versions of transformers, while the names of the weights do not.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from summarizer.packing import layers
from summarizer.packing.anatomy import Anatomy, Stack, anatomy_of, distance_bias_vector, layer_of, packing_obstacle
from summarizer.packing.attention import BACKENDS, Bias, Spans, backend_obstacle, bias_for, choose_backend, spans_of
from summarizer.packing.calls import own_call
from summarizer.packing.compiling import OrElse
from summarizer.packing.cross_entropy import chunk_loss, linear_cross_entropy
from summarizer.packing.dropout import Masks, fixed_numbers, layer_seeds
from summarizer.packing.layers import Numerics

log = logging.getLogger(__name__)


class Seeds(NamedTuple):
    """Hashed dropout of one stack in one pass; without, PyTorch's generator draws the masks."""

    rows: Tensor
    """[layers + 1, SITES] int32: one row a layer, the last for what lies outside the layers."""
    masks: Masks


class PackedSeq2Seq:
    """Loss, logits and encodings of packs by an encoder-decoder of `anatomy.FAMILIES`.

    Args:
        model: transformers' model; its parameters are used as they are at each call. It may be divided over devices by
            FSDP2: the model, its layers, and by itself what layers share (T5's bias by distance).
        attention: one of `attention.BACKENDS`, or auto for the fastest that serves.
        compiled: compile one layer of each stack and the loss with torch.compile, for packs of one static shape.
        residual_dtype: type of the residual stream; None takes float32, as autocast does, but where layers normalize after
            the sum (BART): there the stream starts anew in each sublayer, from numbers that products round all the same.
        checkpoint_layers: keep only each layer's input for the backward pass and compute the rest again.

    Under autocast, products are computed in autocast's type, otherwise in the parameters'. Where a back end or
    compilation does not serve, the next best is taken, with one warning that names the cost.
    """

    def __init__(
        self,
        model: Any,
        *,
        attention: str = "auto",
        compiled: bool = False,
        residual_dtype: torch.dtype | None = None,
        checkpoint_layers: bool = False,
    ) -> None:
        obstacle = packing_obstacle(model)
        assert obstacle is None, f"not a model to pack: {obstacle}"
        assert attention in ("auto", *BACKENDS), f"no attention back end {attention}"
        self.model, self.attention = model, attention
        self.residual_dtype, self.checkpoint_layers = residual_dtype, checkpoint_layers
        self.compiled = compiled
        self._encoder_layer = OrElse(layers.encoder_layer, compiled)
        self._decoder_layer = OrElse(layers.decoder_layer, compiled)
        self._entry, self._exit = OrElse(layers.stack_entry, compiled), OrElse(layers.stack_exit, compiled)
        self._chunk_loss = OrElse(chunk_loss, compiled)
        self._masks: Masks | None = None
        self._backends: dict[tuple[torch.device, torch.dtype], str] = {}

    def loss(self, pack: dict[str, Any], label_smoothing: float = 0.0, seed: Tensor | None = None) -> Tensor:
        """Mean cross-entropy over the pack's labels, a float32 scalar: what the padded model gives for these documents.

        Args:
            seed: int32 scalar on the device, another one each step: the masks of hashed dropout follow from it. None
                draws one from PyTorch's generator of the device.
        """

        def loss(pack: dict[str, Any]) -> Tensor:
            anatomy, numerics = self._prepared(pack)
            with torch.autocast(pack["labels"].device.type, enabled=False):
                hidden = self._decoded(pack, anatomy, numerics, seed)
                weight, bias = anatomy.head
                return linear_cross_entropy(
                    hidden, weight, bias, pack["labels"], label_smoothing, chunk=self._chunk_loss
                )

        return cast(Tensor, own_call(self.model, loss, pack))

    def logits(self, pack: dict[str, Any]) -> Tensor:
        """[T, V] of the decoder's every row, dummies included."""

        def logits(pack: dict[str, Any]) -> Tensor:
            anatomy, numerics = self._prepared(pack)
            with torch.autocast(pack["labels"].device.type, enabled=False):
                return layers.linear(self._decoded(pack, anatomy, numerics, None), anatomy.head)

        return cast(Tensor, own_call(self.model, logits, pack))

    def encode(self, pack: dict[str, Any], seed: Tensor | None = None) -> Tensor:
        """[S, d] encoder outputs for a pack's source_ids, source_positions, source_offsets and longest_source."""

        def encoded(pack: dict[str, Any]) -> Tensor:
            anatomy, numerics = self._prepared(pack)
            with torch.autocast(pack["source_ids"].device.type, enabled=False):
                return self._encoded(pack, anatomy, numerics, seed)

        return cast(Tensor, own_call(self.model, encoded, pack))

    def _prepared(self, pack: dict[str, Any]) -> tuple[Anatomy, Numerics]:
        anatomy = anatomy_of(self.model)
        return anatomy, self.numerics(anatomy, pack["source_ids"].device)

    def numerics(self, anatomy: Anatomy, device: torch.device) -> Numerics:
        """Types and back end of a pass begun now, autocast considered."""
        compute = parameters = anatomy.head.weight.dtype
        if torch.is_autocast_enabled(device.type):
            compute = torch.get_autocast_dtype(device.type)
        wide = torch.float32 if compute != parameters and anatomy.encoder.style.norm_first else compute
        residual = self.residual_dtype or wide
        return Numerics(compute, residual, self.model.training, self._backend(anatomy, device, compute))

    def _backend(self, anatomy: Anatomy, device: torch.device, compute: torch.dtype) -> str:
        key = device, compute
        if key not in self._backends:
            style, biased = anatomy.encoder.style, anatomy.encoder.buckets is not None
            width = layer_of(anatomy.encoder.blocks[0]).self_attention.query.weight.shape[0] // style.heads
            if self.attention == "auto":
                backend, obstacle = choose_backend(device, width, compute, biased)
            else:
                obstacle = backend_obstacle(self.attention, device, width, compute, biased)
                backend = self.attention if obstacle is None else choose_backend(device, width, compute, biased)[0]
            if obstacle is not None:
                log.warning("packed attention runs as %s, which is slower: %s", backend, obstacle)
            self._backends[key] = backend
        return self._backends[key]

    def _seeds(
        self, pack: dict[str, Any], anatomy: Anatomy, numerics: Numerics, seed: Tensor | None
    ) -> list[Seeds | None]:
        """Of the encoder and of the decoder."""
        if not numerics.training or not (self.compiled or numerics.backend == "triton"):
            return [None, None]
        device = pack["source_ids"].device
        if seed is None:
            seed = torch.randint(-(2**31), 2**31 - 1, (), device=device).to(torch.int32)
        rows = max(pack["source_ids"].shape[0], pack["target_ids"].shape[0])
        columns = max(
            layer_of(stack.blocks[0]).feed_forward.output.weight.shape[1]
            for stack in (anatomy.encoder, anatomy.decoder)
        )
        columns = max(columns, anatomy.head.weight.shape[1])
        if self._masks is None or self._masks.rows.shape[0] < rows or self._masks.rows.device != device:
            self._masks = fixed_numbers(rows, columns, device)
        counts = [len(anatomy.encoder.blocks) + 1, len(anatomy.decoder.blocks) + 1]
        return [Seeds(part, self._masks) for part in layer_seeds(seed, sum(counts)).split(counts)]

    def _encoded(self, pack: dict[str, Any], anatomy: Anatomy, numerics: Numerics, seed: Tensor | None) -> Tensor:
        seeds = self._seeds({"target_ids": pack["source_ids"], **pack}, anatomy, numerics, seed)[0]
        return self._through_encoder(pack, anatomy.encoder, numerics, seeds, _spans(pack, "source", numerics))

    def _through_encoder(
        self, pack: dict[str, Any], stack: Stack, numerics: Numerics, seeds: Seeds | None, spans: Spans
    ) -> Tensor:
        x, bias = self._entered(pack["source_ids"], pack["source_positions"], stack, numerics, seeds)
        for i, block in enumerate(stack.blocks):
            x = self._run(block, self._encoder_layer, x, stack.style, numerics, spans, bias, *_of_layer(seeds, i))
        return self._exit(x, stack.final_norm, stack.final_dropout, stack.style, numerics, *_of_layer(seeds, -1))

    def _decoded(self, pack: dict[str, Any], anatomy: Anatomy, numerics: Numerics, seed: Tensor | None) -> Tensor:
        """[T, d] inputs of the output layer."""
        encoder_seeds, seeds = self._seeds(pack, anatomy, numerics, seed)
        spans, memory_spans = _spans(pack, "target", numerics), _spans(pack, "source", numerics)
        memory = self._through_encoder(pack, anatomy.encoder, numerics, encoder_seeds, memory_spans)
        stack = anatomy.decoder
        x, bias = self._entered(pack["target_ids"], pack["target_positions"], stack, numerics, seeds)
        for i, block in enumerate(stack.blocks):
            x = self._run(
                block,
                self._decoder_layer,
                x,
                memory,
                stack.style,
                numerics,
                spans,
                memory_spans,
                bias,
                *_of_layer(seeds, i),
            )
        x = self._exit(x, stack.final_norm, stack.final_dropout, stack.style, numerics, *_of_layer(seeds, -1))
        return x if anatomy.head_scale == 1.0 else x * anatomy.head_scale

    def _entered(
        self, ids: Tensor, positions: Tensor, stack: Stack, numerics: Numerics, seeds: Seeds | None
    ) -> tuple[Tensor, Bias | None]:
        """The stack's input, and its bias by distance, both looked up outside the compiled code."""
        tokens = F.embedding(ids, stack.tokens)
        # a document longer than a learned table fails in the model too; the collator's caps keep to it
        places = None if stack.positions is None else F.embedding(positions + stack.position_offset, stack.positions)
        x = self._entry(
            tokens, stack.token_scale, places, stack.embedding_norm, stack.style, numerics, *_of_layer(seeds, -1)
        )
        return x, bias_for(distance_bias_vector(stack, ids.device), numerics.backend)

    def _run(self, block: Any, function: OrElse, *arguments: Any) -> Tensor:
        def layer(*arguments: Any) -> Any:
            if self.checkpoint_layers and torch.is_grad_enabled():
                # hashed masks come out the same by themselves, and a captured graph may not ask for the generator's state
                drawn = arguments[-2] is None
                # early stop raises out of the layer computed again, which a compiled one would take for its own failure
                with set_checkpoint_early_stop(not self.compiled):
                    return checkpoint(
                        function, layer_of(block), *arguments, use_reentrant=False, preserve_rng_state=drawn
                    )
            return function(layer_of(block), *arguments)

        return cast(Tensor, own_call(block, layer, *arguments))


def _spans(pack: dict[str, Any], side: str, numerics: Numerics) -> Spans:
    rows = pack[f"{side}_ids"].shape[0]
    return spans_of(pack[f"{side}_offsets"], pack[f"longest_{side}"], rows, numerics.backend)


def _of_layer(seeds: Seeds | None, index: int) -> tuple[Tensor | None, Masks | None]:
    return (None, None) if seeds is None else (seeds.rows[index], seeds.masks)

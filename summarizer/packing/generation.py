"""Summaries of many documents by beam search with memory of fixed size: the tokens of generate(), several times sooner.

Documents are taken longest first, as many as there are slots. When half of them are done, the rest moves into half the
slots. On CUDA a step is one graph, recorded for each number of slots and of cached tokens looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from summarizer.packing.anatomy import anatomy_of, packing_obstacle
from summarizer.packing.beam_search import SearchSettings, SearchState, search_obstacle, search_settings
from summarizer.packing.collate import offsets_of, positions_of
from summarizer.packing.copy_decoding import CopyDecoder, copies
from summarizer.packing.decoding import Cache, Step, step_weights
from summarizer.packing.seq2seq import PackedSeq2Seq

log = logging.getLogger(__name__)

LOOK_EVERY = 8  # tokens between two looks at which documents are done; a look waits for the device
EXTENT_STEP = 32  # a step looks at a multiple of so many cached tokens
FEWEST_SLOTS = 8  # below, half the slots are not worth another recording


def generation_obstacle(model: Any, options: Any) -> str | None:
    """Why generate() has to do this search, as the end of a sentence; None when `PackedGenerator` can."""
    obstacle = None if copies(model) else packing_obstacle(model)
    return obstacle or search_obstacle(options)


class Decoder(Protocol):
    """What a search needs of a model: memory for documents and beams, and the logits of the next token."""

    @property
    def device(self) -> torch.device: ...

    def cache(self, documents: int, longest: int) -> Any:
        """A `History` for so many documents of at most so many tokens."""

    def remember(self, cache: Any, sources: Sequence[np.ndarray]) -> None:
        """Encode documents, at most as many as the cache is for."""

    def logits(self, cache: Any, state: SearchState, extent: int) -> Tensor:
        """[B * K, V] float32 of the next token; of the cached tokens the first `extent` are looked at."""


class PackedDecoder:
    """An encoder-decoder that packs, whose documents are encoded end to end.

    Args: as of `PackedGenerator`.
    """

    def __init__(
        self, model: Any, settings: SearchSettings, longest_source: int, compute: torch.dtype | None, compiled: bool
    ) -> None:
        self.model, self.settings, self.longest_source = model, settings, longest_source
        anatomy = anatomy_of(model)
        weight = anatomy.head.weight
        self.device = weight.device
        self.run = PackedSeq2Seq(model)
        self.compute = weight.dtype if compute is None else compute
        with torch.no_grad():
            with torch.autocast(self.device.type, self.compute, enabled=self.compute != weight.dtype):
                self.numerics = self.run.numerics(anatomy, self.device)
            # the residual stream of a step is narrow: it keeps the type of the whole model's
            self.weights = step_weights(anatomy, self.numerics, settings.max_new_tokens)
        self.functions = Step(compiled)

    def cache(self, documents: int, longest: int) -> Cache:
        settings, rows = self.settings, documents * longest
        return Cache(self.weights, documents, settings.beams, settings.max_new_tokens, rows, self.numerics)

    def remember(self, cache: Cache, sources: Sequence[np.ndarray]) -> None:
        """A slot without a document is empty."""
        lengths = np.array([len(source) for source in sources])
        assert lengths.max() <= self.longest_source, "a document is longer than said"
        empty = np.zeros(cache.documents - len(lengths), dtype=np.int64)
        offsets = offsets_of(np.concatenate([lengths, empty])).to(self.device)
        pack = {
            "source_ids": torch.from_numpy(np.concatenate(sources).astype(np.int64)).to(self.device),
            "source_positions": positions_of(lengths).to(self.device),
            "source_offsets": offsets,
            "longest_source": self.longest_source,
        }
        weight = self.model.lm_head.weight
        with torch.autocast(self.device.type, self.compute, enabled=self.compute != weight.dtype):
            encoded = self.run.encode(pack)
        cache.remember(self.weights, encoded, offsets)

    def logits(self, cache: Cache, state: SearchState, extent: int) -> Tensor:
        return self.functions.logits(self.weights, self.numerics, cache, state.last, extent, self.longest_source)


class Session:
    """Fixed memory for the search over one number of documents, and its recorded steps."""

    def __init__(
        self, decoder: Decoder, settings: SearchSettings, documents: int, longest: int, recorded: bool
    ) -> None:
        self.decoder, self.settings, self.recorded = decoder, settings, recorded
        self.cache = decoder.cache(documents, longest)
        self.state = SearchState(settings, documents, decoder.device)
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}
        if recorded:
            for extent in sorted({self.extent_of(token) for token in range(settings.max_new_tokens)}):
                self._record(extent)

    def extent_of(self, token: int) -> int:
        """Cached tokens that the step of this token (0 first) looks at."""
        if not self.recorded:
            return token + 1
        return min(self.settings.max_new_tokens, (token // EXTENT_STEP + 1) * EXTENT_STEP)

    def _step(self, extent: int) -> None:
        self.cache.advance(self.state.advance(self.decoder.logits(self.cache, self.state, extent)))

    def _record(self, extent: int) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                self.reset()
                self._step(extent)
        torch.cuda.current_stream().wait_stream(side)
        self.reset()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self._step(extent)
        self.graphs[extent] = graph
        self.reset()

    def reset(self) -> None:
        self.state.reset()
        self.cache.reset()

    def step(self, token: int) -> None:
        extent = self.extent_of(token)
        if extent in self.graphs:
            self.graphs[extent].replay()
        else:
            self._step(extent)


class PackedGenerator:
    """Beam or greedy search by an encoder-decoder that packs, or by a copy transformer.

    Args:
        model: transformers' model, in eval mode, on its device.
        options: a GenerationConfig; see `beam_search.search_obstacle` for what it may ask.
        slots: documents searched over at a time, at most.
        longest_source: tokens of the longest document to come.
        compute: type of products; None takes the parameters'.
        compiled, recorded: compile the layers (of one that packs), replay steps as CUDA graphs; None does both on CUDA.
    """

    def __init__(
        self, model: Any, options: Any, *, slots: int, longest_source: int, compute: torch.dtype | None = None,
        compiled: bool | None = None, recorded: bool | None = None,
    ) -> None:  # fmt: skip
        obstacle = generation_obstacle(model, options)
        assert obstacle is None, f"not a search to pack: {obstacle}"
        assert not model.training, "dropout is for training"
        self.settings, self.slots, self.longest_source = search_settings(options), slots, longest_source
        device = next(model.parameters()).device
        compiled, self.recorded = (
            device.type == "cuda" if wanted is None else wanted for wanted in (compiled, recorded)
        )
        self.decoder: Decoder
        if copies(model):
            self.decoder = CopyDecoder(model, self.settings, compute)
        else:
            self.decoder = PackedDecoder(model, self.settings, longest_source, compute, bool(compiled))
        self._sessions: dict[int, Session] = {}

    def summarize(
        self, sources: Sequence[np.ndarray], progress: Callable[[int, int], None] | None = None
    ) -> list[list[int]]:
        """The best of `hypotheses`."""
        return [beams[0] for beams in self.hypotheses(sources, progress)]

    @torch.no_grad()
    def hypotheses(
        self,
        sources: Sequence[np.ndarray],
        progress: Callable[[int, int], None] | None = None,
        finished: Callable[[int, list[list[int]]], None] | None = None,
    ) -> list[list[list[int]]]:
        """Ids of `num_return_sequences` summaries a document, the best first, without the start token, up to and with the end.

        Args:
            sources: one int array [tokens] a document, none longer than `longest_source`.
            progress: called with (documents done, of how many).
            finished: called with the number of a document and its summaries as soon as they are there.
        """
        found: list[list[list[int]]] = [[] for _ in sources]
        order = sorted(range(len(sources)), key=lambda i: (-len(sources[i]), i))
        for start in range(0, len(order), self.slots):
            batch = order[start : start + self.slots]
            for i, beams in zip(batch, self._search([sources[i] for i in batch]), strict=True):
                found[i] = beams
                if finished is not None:
                    finished(i, beams)
            if progress is not None:
                progress(min(start + self.slots, len(order)), len(order))
        return found

    def _session(self, documents: int, longest: int) -> Session:
        if documents not in self._sessions:
            self._sessions[documents] = Session(self.decoder, self.settings, documents, longest, self.recorded)
        return self._sessions[documents]

    def _search(self, sources: Sequence[np.ndarray]) -> list[list[list[int]]]:
        # recorded steps want few sizes; elsewhere a session is made to measure and forgotten
        longest = self.longest_source if self.recorded else max(map(len, sources))
        session = self._session(self.slots if self.recorded else len(sources), longest)
        session.reset()
        self.decoder.remember(session.cache, sources)
        session.state.open[len(sources) :] = False
        found: list[list[list[int]]] = [[] for _ in sources]
        inside = list(range(len(sources)))  # the document in each slot
        for token in range(self.settings.max_new_tokens):
            session.step(token)
            if (token + 1) % LOOK_EVERY and token + 1 < self.settings.max_new_tokens:
                continue
            still = session.state.still_open()[: len(inside)].tolist()
            if not any(still):
                break
            fewer = self._fewer_slots(session.state.documents, sum(still))
            if fewer is not None:
                self._keep(found, inside, session)
                kept = [slot for slot, is_open in enumerate(still) if is_open]
                smaller = self._session(fewer, longest)
                smaller.reset()
                smaller.cache.take_over(session.cache, kept)
                smaller.state.take_over(session.state, kept)
                session, inside = smaller, [inside[slot] for slot in kept]
        self._keep(found, inside, session)
        if not self.recorded:
            self._sessions.clear()
        return found

    def _fewer_slots(self, slots: int, documents: int) -> int | None:
        """The number of slots to move into, None to stay."""
        if not self.recorded:
            return documents if documents <= slots // 2 else None
        fewer = slots
        while fewer // 2 >= max(documents, FEWEST_SLOTS):
            fewer //= 2
        return fewer if fewer < slots else None

    @staticmethod
    def _keep(found: list[list[list[int]]], inside: list[int], session: Session) -> None:
        for document, beams in zip(inside, session.state.hypotheses(), strict=False):
            found[document] = beams

"""The bookkeeping of beam and greedy search on the device, step by step what transformers' generate() decides.

Shapes: B documents, K beams, T tokens a summary may have, V vocabulary. No step waits for the device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NEVER = -1.0e9  # a score that loses against any real one, as in transformers

# settings that change what generate() does and that are not done here, with the values that leave them off
OFF: dict[str, tuple[Any, ...]] = {
    "do_sample": (False, None), "num_beam_groups": (1, None), "diversity_penalty": (0.0, None),
    "repetition_penalty": (1.0, None),
    "encoder_repetition_penalty": (1.0, None), "encoder_no_repeat_ngram_size": (0, None), "bad_words_ids": (None,),
    "min_length": (0, None), "exponential_decay_length_penalty": (None,), "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []), "sequence_bias": (None,), "constraints": (None,), "force_words_ids": (None,),
    "penalty_alpha": (None,), "prompt_lookup_num_tokens": (None,), "guidance_scale": (None, 1.0),
    "dola_layers": (None,),
    "remove_invalid_values": (False, None), "renormalize_logits": (False, None),
    "stop_strings": (None,), "watermarking_config": (None,), "max_time": (None,), "early_stopping": (False, True, None),
}  # fmt: skip


@dataclass(frozen=True)
class SearchSettings:
    """Of transformers' GenerationConfig what this search does."""

    beams: int
    returned: int
    """Hypotheses of each document that are wanted, the best first."""
    max_new_tokens: int
    min_new_tokens: int
    length_penalty: float
    early_stopping: bool
    no_repeat_ngram_size: int
    start: int
    end: int
    padding: int
    forced_first: int | None
    forced_last: int | None


def search_obstacle(options: Any) -> str | None:
    """Why a GenerationConfig asks for more than this search does, as the end of a sentence; None when it does not."""
    for name, values in OFF.items():
        if getattr(options, name, None) not in values:
            return f"generation with {name}={getattr(options, name)} is left to generate()"
    for name in ("eos_token_id", "forced_eos_token_id"):
        if isinstance(getattr(options, name, None), list | tuple) and len(getattr(options, name)) > 1:
            return f"several values of {name} are left to generate()"
    if options.max_new_tokens is None:
        return "max_new_tokens is not set"
    return None


def search_settings(options: Any) -> SearchSettings:
    """From a GenerationConfig without a `search_obstacle`."""

    def one(value: Any) -> Any:
        return value[0] if isinstance(value, list | tuple) else value

    end = one(options.eos_token_id)
    return SearchSettings(
        beams=options.num_beams or 1, returned=options.num_return_sequences or 1,
        max_new_tokens=options.max_new_tokens, min_new_tokens=options.min_new_tokens or 0,
        length_penalty=1.0 if options.length_penalty is None else options.length_penalty,
        early_stopping=bool(options.early_stopping), no_repeat_ngram_size=options.no_repeat_ngram_size or 0,
        start=one(options.bos_token_id if options.decoder_start_token_id is None else options.decoder_start_token_id),
        end=end, padding=end if options.pad_token_id is None else options.pad_token_id,
        forced_first=one(options.forced_bos_token_id), forced_last=one(options.forced_eos_token_id),
    )  # fmt: skip


class SearchState:
    """Running and finished hypotheses of B documents; every tensor keeps its place, so that steps can be recorded."""

    def __init__(self, settings: SearchSettings, documents: int, device: torch.device) -> None:
        self.settings, self.documents = settings, documents
        shape = (documents, settings.beams)
        self.running = torch.zeros(*shape, settings.max_new_tokens + 1, dtype=torch.int64, device=device)
        self.finished = torch.zeros_like(self.running)
        self.scores = torch.zeros(shape, device=device)
        self.finished_scores = torch.zeros(shape, device=device)
        self.is_finished = torch.zeros(shape, dtype=torch.bool, device=device)
        self.open = torch.zeros(documents, 1, dtype=torch.bool, device=device)
        """Whether a document can still get a better summary."""
        self.last = torch.zeros(shape, dtype=torch.int64, device=device)
        self.length = torch.zeros(1, dtype=torch.int64, device=device)
        """Tokens of a running hypothesis, the start token counted."""
        self.reset()

    def tensors(self) -> list[Tensor]:
        """One row a document each."""
        return [self.running, self.finished, self.scores, self.finished_scores, self.is_finished, self.open, self.last]

    def reset(self) -> None:
        settings = self.settings
        for sequences in (self.running, self.finished):
            sequences.fill_(settings.padding)
            sequences[:, :, 0] = settings.start
        self.last.fill_(settings.start)
        self.length.fill_(1)
        self.scores.zero_()
        # only the first beam counts at first: the others would find the same tokens
        self.scores[:, 1:] = NEVER
        self.finished_scores.fill_(NEVER)
        self.is_finished.fill_(False)
        self.open.fill_(True)

    def take_over(self, other: SearchState, kept: list[int]) -> None:
        """Continue the documents `kept` of a larger state; further slots are closed."""
        rows = torch.tensor(kept + [kept[-1]] * (self.documents - len(kept)), device=self.length.device)
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs[rows])
        self.open[len(kept) :] = False
        self.length.copy_(other.length)

    def allowed(self, log_shares: Tensor) -> Tensor:
        """[B * K, V] log probabilities with what may not come next at minus infinity."""
        settings, length = self.settings, self.length
        if 0 < settings.no_repeat_ngram_size <= settings.max_new_tokens:
            log_shares = self._without_repeats(log_shares, settings.no_repeat_ngram_size)
        columns = torch.arange(log_shares.shape[1], device=log_shares.device)
        is_end = columns == settings.end
        if settings.min_new_tokens:
            log_shares = log_shares.masked_fill(is_end & (length <= settings.min_new_tokens), -math.inf)
        for forced, turn in ((settings.forced_first, 1), (settings.forced_last, settings.max_new_tokens)):
            if forced is not None:
                only = torch.where(columns == forced, 0.0, -math.inf)
                log_shares = torch.where(length == turn, only, log_shares)
        return log_shares

    def _without_repeats(self, log_shares: Tensor, size: int) -> Tensor:
        """Forbid what would complete an n-gram that a beam holds already, the start token counted."""
        rows = self.running.view(-1, self.running.shape[-1])
        starts = torch.arange(rows.shape[1] - size + 1, device=rows.device)
        repeated = (starts <= self.length - size).expand(rows.shape[0], -1)
        for j in range(size - 1):
            latest = rows.gather(1, (self.length - (size - 1) + j).clamp(min=0).expand(rows.shape[0], 1))
            repeated = repeated & (rows[:, j : j + len(starts)] == latest)
        banned = torch.where(repeated, -math.inf, math.inf)
        return log_shares.scatter_reduce(1, rows[:, size - 1 :], banned, "amin")

    def advance(self, logits: Tensor) -> Tensor:
        """Choose the next tokens; returns [B, K], for each new beam the one it continues.

        Args:
            logits: [B * K, V] float32.
        """
        if self.settings.beams == 1:
            return self._advance_greedily(logits)
        settings, beams, length = self.settings, self.settings.beams, self.length
        log_shares = self.allowed(torch.log_softmax(logits, -1)) + self.scores.view(-1, 1)
        # the best 2K of a document are among the best 2K of each of its beams
        best, tokens = torch.topk(log_shares, 2 * beams, -1)
        best, order = torch.topk(best.view(self.documents, -1), 2 * beams, -1)
        parents, tokens = order // (2 * beams), tokens.view(self.documents, -1).gather(1, order)
        sequences = self._of_beams(self.running, parents).index_copy(2, length, tokens[:, :, None])
        at_limit = length + 1 >= settings.max_new_tokens + 1
        ended = (tokens == settings.end) | at_limit

        running_scores, chosen = torch.topk(best + ended.float() * NEVER, beams, -1)
        # only the best K may finish: the others are there to leave K that run on
        finishing = ended & (torch.arange(2 * beams, device=ended.device) < beams)
        final = best / (length.float() ** settings.length_penalty)
        if settings.early_stopping:
            final = final + self.is_finished.all(1, keepdim=True).float() * NEVER
        final = final + (~self.open).float() * NEVER + (~finishing).float() * NEVER
        merged = torch.cat([self.finished_scores, final], 1)
        kept_scores, kept = torch.topk(merged, beams, -1)
        self.finished.copy_(self._of_beams(torch.cat([self.finished, sequences], 1), kept))
        self.is_finished.copy_(torch.cat([self.is_finished, finishing], 1).gather(1, kept))
        self.finished_scores.copy_(kept_scores)

        self.running.copy_(self._of_beams(sequences, chosen))
        self.scores.copy_(running_scores)
        self.last.copy_(tokens.gather(1, chosen))
        # could the best running beam, as long as it is now, still beat the worst finished one?
        hoped = running_scores[:, :1] / (length.float() ** settings.length_penalty)
        worst = torch.where(self.is_finished, kept_scores.min(1, keepdim=True)[0], NEVER)
        self.open.logical_and_((hoped > worst).any(-1, keepdim=True))
        self.open.logical_and_(~at_limit)
        self.length.add_(1)
        return parents.gather(1, chosen)

    def _advance_greedily(self, logits: Tensor) -> Tensor:
        settings = self.settings
        tokens = self.allowed(logits).argmax(-1, keepdim=True)
        tokens = torch.where(self.open, tokens, settings.padding)
        self.running.index_copy_(2, self.length, tokens[:, :, None])
        self.finished.copy_(self.running)
        self.last.copy_(tokens)
        self.open.logical_and_((tokens != settings.end) & (self.length < settings.max_new_tokens))
        self.length.add_(1)
        return torch.zeros_like(tokens)

    @staticmethod
    def _of_beams(sequences: Tensor, beams: Tensor) -> Tensor:
        return sequences.gather(1, beams[:, :, None].expand(-1, -1, sequences.shape[2]))

    def still_open(self) -> Tensor:
        """[B] on the host: documents whose summary may change yet; waits for the device."""
        closed = self.settings.early_stopping and self.settings.beams > 1
        still = self.open[:, 0] & ~self.is_finished.all(1) if closed else self.open[:, 0]
        return still.cpu()

    def hypotheses(self) -> list[list[list[int]]]:
        """The `returned` best of each document, the best first, without the start token, up to and with the end token."""
        settings = self.settings
        rows = self.finished[:, : settings.returned, 1:].tolist()
        return [[row[: row.index(settings.end) + 1] if settings.end in row else row for row in beams] for beams in rows]

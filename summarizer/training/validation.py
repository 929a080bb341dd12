"""What a validation does beyond the loss: summaries of a fixed set of rows, and their ROUGE."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import Callback

from summarizer.data.tokenized import TokenizedSplit
from summarizer.evaluation.baselines import first_sentence_rules, sentences
from summarizer.evaluation.distributed import gather, rank_and_world_size
from summarizer.evaluation.generation import summarize_batches
from summarizer.evaluation.rouge import score_rows
from summarizer.evaluation.statistics import length_and_novelty
from summarizer.evaluation.words import choose
from summarizer.metric_names import BASELINE_MEASURE, BASELINES, NOVEL, WORDS, scored
from summarizer.training.loggers import log_samples
from summarizer.training.progress import tell_watchers
from summarizer.training.sharding import gathered


class GenerativeValidation(Callback):
    """Summarizes `rows` of the validation split with the evaluation's own settings and logs `validation/rouge*`.

    Stands before the weight averaging in the list of callbacks, because that one swaps the averaged weights back in
    the same hook.
    """

    def __init__(
        self, split: TokenizedSplit, rows: np.ndarray, tokenizer: Any, generation: DictConfig, batch_tokens: int,
        samples: int,
    ) -> None:  # fmt: skip
        self.split, self.rows, self.tokenizer = split, rows, tokenizer
        self.generation, self.batch_tokens, self.samples = generation, batch_tokens, samples
        self.rouge_tokenizer = choose(split.summary(i) for i in range(len(split)))
        self._baselines: dict[str, float] | None = None

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        rank, world_size = rank_and_world_size()
        mine = self.rows[rank::world_size]
        model: Any = pl_module.model
        was_training = model.training
        model.eval()
        with gathered(model):
            written = summarize_batches(
                model,
                [self.split.source(int(i)) for i in mine],
                settings=self.generation,
                batch_tokens=self.batch_tokens,
                tokenizer=self.tokenizer,
                rouge_tokenizer=self.rouge_tokenizer,
                progress=tell_watchers(trainer),
            )
        model.train(was_training)
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        pairs = dict(gather(list(zip(mine.tolist(), texts, strict=True))))
        order = [int(i) for i in self.rows]
        predictions, references = [pairs[i] for i in order], [self.split.summary(i) for i in order]
        documents = [self.split.document(i) for i in order]
        scores = {
            scored("validation", key): 100 * float(np.mean(values))
            for key, values in score_rows(predictions, references, self.rouge_tokenizer).items()
        }
        words, novel = length_and_novelty(predictions, documents, self.rouge_tokenizer)
        scores |= {scored("validation", WORDS): words, scored("validation", NOVEL): novel}
        scores |= self.baselines(documents, references)
        # the same on every rank already; to say so keeps Lightning from advising it
        pl_module.log_dict(scores, sync_dist=trainer.world_size > 1)
        if trainer.is_global_zero:
            shown = order[: self.samples]
            table = [(self.split.id(i), self.split.document(i), self.split.summary(i), pairs[i]) for i in shown]
            log_samples(trainer.loggers, trainer.global_step, table)

    def baselines(self, documents: list[str], references: list[str]) -> dict[str, float]:
        """What the baselines score on the same rows, once per run: a line to be above."""
        if self._baselines is None:
            written = [
                first_sentence_rules(sentences(document, self.rouge_tokenizer)[0], self.rouge_tokenizer)
                for document in documents
            ]
            self._baselines = {
                scored("validation", BASELINE_MEASURE, rule): 100
                * float(
                    np.mean(
                        score_rows([row[rule] for row in written], references, self.rouge_tokenizer)[BASELINE_MEASURE]
                    )
                )
                for rule in BASELINES
            }
        return self._baselines

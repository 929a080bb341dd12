"""The Lightning datamodule: tokenized splits as batches, with a position that a resumed run continues from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from summarizer.data.batches import BatchLimits, TrainingBatches, evaluation_batches
from summarizer.data.collate import CausalCollator, Pair, Seq2SeqCollator
from summarizer.data.tokenized import TokenizedSplit


class Pairs(Dataset[Pair]):
    """Token ids of one split, row by row, straight from the Arrow buffers."""

    def __init__(self, split: TokenizedSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> Pair:
        return self.split.source(index), self.split.target(index)


class FixedBatches:
    """A list of batches as a batch sampler."""

    def __init__(self, batches: Sequence[np.ndarray]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in self.batches)


class SummarizationData(pl.LightningDataModule):
    """Batches of one corpus.

    Args:
        splits: tokenized splits by name.
        limits: of a forward pass on one device.
        validation_samples: rows of the validation split that each validation summarizes (its loss is of the whole split); None takes all.
    """

    def __init__(
        self,
        splits: dict[str, TokenizedSplit],
        collator: Seq2SeqCollator | CausalCollator,
        limits: BatchLimits,
        *,
        epochs: int,
        seed: int,
        validation_samples: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.splits, self.collator, self.limits = splits, collator, limits
        self.epochs, self.seed = epochs, seed
        self.validation_samples = validation_samples
        self.loader_options: dict[str, Any] = {
            "num_workers": workers,
            "pin_memory": pin_memory,
            "persistent_workers": workers > 0,
        }
        self.position = 0
        self._batches: TrainingBatches | None = None

    def training_batches(self, rank: int, world_size: int) -> TrainingBatches:
        split = self.splits["train"]
        return TrainingBatches(
            split.source_lengths, split.target_lengths, self.limits,
            seed=self.seed, epochs=self.epochs, rank=rank, world_size=world_size,
        )  # fmt: skip

    @property
    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Pair]:
        self._batches = self.training_batches(*self._ranks)
        self._batches.start = self.position
        return self._loader("train", self._batches)

    def validation_rows(self) -> np.ndarray:
        """The rows of the validation split that are summarized at each validation: always the same ones."""
        size = len(self.splits["validation"])
        wanted = min(self.validation_samples or size, size)
        return np.sort(np.random.default_rng(self.seed).permutation(size)[:wanted])

    def val_dataloader(self) -> DataLoader[Any]:
        rank, world_size = self._ranks
        split = self.splits["validation"]
        batches = evaluation_batches(split.source_lengths, split.target_lengths, self.limits, rank=rank, world_size=world_size)
        return self._loader("validation", FixedBatches(batches))

    def _loader(self, split: str, batches: Any) -> DataLoader[Any]:
        import torch

        return DataLoader(
            Pairs(self.splits[split]),
            batch_sampler=batches,
            collate_fn=self.collator,
            # a generator of its own: making an iterator draws a number, which must not be the model's next dropout mask
            generator=torch.Generator().manual_seed(self.seed),
            **self.loader_options,
        )

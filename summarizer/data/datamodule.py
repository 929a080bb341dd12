"""The Lightning datamodule: tokenized splits as batches, with a position that a resumed run continues from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset, IterableDataset

from summarizer.data.batches import WINDOW, BatchLimits, EpochPlans, TrainingBatches, epoch_batches, evaluation_batches
from summarizer.data.collate import CausalCollator, Pair, Seq2SeqCollator
from summarizer.data.tokenized import TokenizedSplit, TokenizedStream
from summarizer.errors import DataError
from summarizer.packing.collate import PackedCausalCollator, PackedSeq2SeqCollator
from summarizer.packing.planning import PackBudget, TrainingPacks

Collator = Seq2SeqCollator | CausalCollator
ENDLESS = 10**9  # batches in an epoch of a stream


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


class StreamedBatches(IterableDataset[dict[str, Any]]):
    """Batches of a stream, pass after pass without end: windows of pairs are read, sorted by length, cut and shuffled.

    Each rank takes every `world_size`-th pair.

    Args:
        start: batches of this rank to pass over. They are read again, since a stream has no other way to its middle.
    """

    def __init__(
        self,
        stream: TokenizedStream,
        collator: Collator,
        limits: BatchLimits,
        *,
        seed: int,
        rank: int,
        world_size: int,
        start: int,
    ) -> None:
        self.stream, self.collator, self.limits = stream, collator, limits
        self.seed, self.rank, self.world_size, self.start = seed, rank, world_size, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        skip = self.start
        for epoch in itertools.count():
            pairs = itertools.islice(iter(self.stream), self.rank, None, self.world_size)
            for number in itertools.count():
                window = list(itertools.islice(pairs, WINDOW * self.limits.documents))
                if not window:
                    break
                sources, targets = (np.array([len(pair[side]) for pair in window]) for side in (0, 1))
                for batch in epoch_batches(sources, targets, self.limits, seed=self.seed + epoch, epoch=number):
                    if skip:
                        skip -= 1
                    else:
                        yield self.collator([window[i] for i in batch])
            if number == 0:
                raise DataError(f"the stream of the train split gave no pair to rank {self.rank} of {self.world_size}.")


@dataclass(frozen=True)
class Packing:
    """How training documents are packed; validation and summaries are padded all the same."""

    budget: PackBudget
    collator: PackedSeq2SeqCollator | PackedCausalCollator


class SummarizationData(pl.LightningDataModule):
    """Batches of one corpus.

    Args:
        splits: tokenized splits by name.
        limits: of a forward pass on one device.
        packing: None pads documents of like length instead.
        validation_samples: rows of the validation split that each validation summarizes (its loss is of the whole split); None takes all.
    """

    def __init__(
        self,
        splits: dict[str, TokenizedSplit | TokenizedStream],
        collator: Collator,
        limits: BatchLimits,
        *,
        epochs: int,
        seed: int,
        validation_samples: int | None = None,
        workers: int = 0,
        pin_memory: bool = False,
        packing: Packing | None = None,
    ) -> None:
        super().__init__()
        self.packing = packing
        self.splits, self.collator, self.limits = splits, collator, limits
        self.epochs, self.seed = epochs, seed
        self.validation_samples = validation_samples
        self.loader_options: dict[str, Any] = {
            "num_workers": workers,
            "pin_memory": pin_memory,
            "persistent_workers": workers > 0,
        }
        self.position = 0
        self._loaders: list[DataLoader[Any]] = []

    def epoch_size(self, rank: int, world_size: int) -> tuple[int, float]:
        """Batches of this rank in one epoch (for a stream, more than anyone counts), and mean documents of one on all ranks.

        Raises:
            DataError: fewer documents than devices, to train on or to validate on.
        """
        train = self.splits["train"]
        validated = len(self._stored("validation"))
        if validated < world_size:
            raise DataError(
                f"the validation split has {validated} rows, too few for {world_size} devices: add rows, or set "
                f"trainer.devices={max(1, validated)}."
            )
        if isinstance(train, TokenizedStream):
            return ENDLESS, float(self.limits.documents * world_size)
        batches = self.training_batches(rank, world_size)
        if len(train) < world_size or not len(batches):
            raise DataError(
                f"the train split has {len(train)} documents, too few for {world_size} devices: lower trainer.devices."
            )
        per_epoch = max(1, len(batches) // self.epochs)
        return per_epoch, len(train) / per_epoch

    def training_batches(self, rank: int, world_size: int) -> EpochPlans:
        """Every batch of this rank in the whole run; packs where documents are packed."""
        split = self._stored("train")
        sources, targets = split.source_lengths, split.target_lengths
        seed, epochs = self.seed, self.epochs
        if self.packing is not None:
            budget = self.packing.budget
            return TrainingPacks(sources, targets, budget, seed=seed, epochs=epochs, rank=rank, world_size=world_size)
        return TrainingBatches(
            sources, targets, self.limits, seed=seed, epochs=epochs, rank=rank, world_size=world_size
        )

    @property
    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = self._ranks
        train = self.splits["train"]
        if isinstance(train, TokenizedStream):
            streamed = StreamedBatches(
                train, self.collator, self.limits, seed=self.seed, rank=rank, world_size=world_size, start=self.position
            )
            # read in this process: several would each read the whole stream
            return DataLoader(streamed, batch_size=None, pin_memory=self.loader_options["pin_memory"])
        batches = self.training_batches(rank, world_size)
        batches.start = self.position
        return self._loader("train", batches, self.packing.collator if self.packing else None)

    def validation_rows(self) -> np.ndarray:
        """The rows of the validation split that are summarized at each validation: always the same ones."""
        size = len(self._stored("validation"))
        wanted = min(self.validation_samples or size, size)
        return np.sort(np.random.default_rng(self.seed).permutation(size)[:wanted])

    def val_dataloader(self) -> DataLoader[Any]:
        rank, world_size = self._ranks
        split = self._stored("validation")
        batches = evaluation_batches(
            split.source_lengths, split.target_lengths, self.limits, rank=rank, world_size=world_size
        )
        return self._loader("validation", FixedBatches(batches))

    def _stored(self, name: str) -> TokenizedSplit:
        split = self.splits[name]
        assert isinstance(split, TokenizedSplit), f"only the train split can be a stream, not {name}"
        return split

    def _loader(self, split: str, batches: Any, collator: Any = None) -> DataLoader[Any]:
        import torch

        loader = DataLoader(
            Pairs(self._stored(split)),
            batch_sampler=batches,
            collate_fn=collator or self.collator,
            # a generator of its own: making an iterator draws a number, which must not be the model's next dropout mask
            generator=torch.Generator().manual_seed(self.seed),
            **self.loader_options,
        )
        self._loaders.append(loader)
        return loader

    def end_workers(self) -> None:
        """End the processes that make batches, however the training ended.

        Lightning ends those of the loop that it was in. The others would wait for the garbage collector, which may take their
        queues before them: then each is waited for 5 seconds, in the middle of the sweep's next job.
        """
        while self._loaders:
            iterator = self._loaders.pop()._iterator
            if iterator is not None and self.loader_options["num_workers"]:
                iterator._shutdown_workers()  # type: ignore[attr-defined]

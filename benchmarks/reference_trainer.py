"""The reference of train_throughput: transformers' own Seq2SeqTrainer, set up as its documentation does.

bf16 autocast (on a processor where asked for), fused AdamW, SDPA attention, DataCollatorForSeq2Seq, loader workers; the
documents come in the order given, so that the tokens of the timed steps are known exactly.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch

from benchmarks.shapes import Documents, forget_peak, is_out_of_memory, peak_gib, synchronize

WARM_UP_STEPS = 5


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """Documents as the rows a Trainer expects."""

    def __init__(self, documents: Documents) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, target = self.documents[index]
        return {"input_ids": source.tolist(), "attention_mask": [1] * len(source), "labels": target.tolist()}


def tokenizer_for(model: Any) -> Any:
    """A tokenizer with the model's padding id, for the collator."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "</s>", "<unk>"] if model.config.pad_token_id == 0 else ["<s>", "<pad>", "</s>", "<unk>"]
    words = WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>")
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def measure(
    model: Any,
    documents: Documents,
    batch: int,
    steps: int,
    device: torch.device,
    workers: int,
    bf16: bool | None = None,
) -> dict[str, Any] | None:
    """Tokens per second of the steady state, seconds until it, peak memory; None when memory does not suffice."""
    from torch.utils.data import SequentialSampler
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if len(self.ends) + 1 in (1, WARM_UP_STEPS, WARM_UP_STEPS + steps):
                synchronize(device)
            self.ends.append(time.perf_counter())

    class InOrder(Seq2SeqTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *arguments: Any) -> Any:
            return SequentialSampler(self.train_dataset)

    forget_peak(device)
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=batch,
            max_steps=WARM_UP_STEPS + steps,
            bf16=device.type == "cuda" if bf16 is None else bf16,
            optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
            learning_rate=5e-5,
            lr_scheduler_type="linear",
            dataloader_num_workers=workers,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=device.type == "cpu",
            remove_unused_columns=False,
        )
        tokenizer = tokenizer_for(model)
        clock = Clock()
        trainer = InOrder(
            model=model,
            args=arguments,
            train_dataset=Rows(documents),
            processing_class=tokenizer,
            data_collator=DataCollatorForSeq2Seq(tokenizer, model=model, pad_to_multiple_of=8),
            callbacks=[clock],
        )
        started = time.perf_counter()
        try:
            trainer.train()
        except RuntimeError as error:
            if is_out_of_memory(error):
                return None
            raise
    first, last = WARM_UP_STEPS * batch, (WARM_UP_STEPS + steps) * batch
    counted = np.arange(first, last) % len(documents)
    tokens = int(documents.source_lengths[counted].sum() + documents.target_lengths[counted].sum())
    seconds = clock.ends[WARM_UP_STEPS + steps - 1] - clock.ends[WARM_UP_STEPS - 1]
    before = clock.ends[WARM_UP_STEPS - 1] - started
    return {
        "batch": batch,
        "tokens_per_s": tokens / seconds,
        "tokens_per_step": tokens / steps,
        "peak_gib": peak_gib(device),
        "first_1000_steps_s": before + (1000 - WARM_UP_STEPS) * seconds / steps,
        "documents_per_s": steps * batch / seconds,
    }

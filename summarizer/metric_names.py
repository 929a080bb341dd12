"""Names of everything a job logs: loggers write them, the objective, the dashboard and the reports read them.

Plain strings, because they become keys of checkpoints, tables and JSON.
"""

from __future__ import annotations

STEP = "trainer/global_step"
LOSS = "train/loss"
LEARNING_RATE = "train/lr"
GRADIENT_NORM = "train/gradient_norm"
TOKENS_PER_SECOND = "train/tokens_per_second"
DOCUMENTS_PER_SECOND = "train/documents_per_second"
NON_PADDING_SHARE = "train/non_padding_share"
DATA_WAIT_SHARE = "train/data_wait_share"
MEMORY_GIB = "train/memory_gib"
SHARE_OF_PEAK = "train/mfu"
"""Model FLOPs utilization; logged only where the peak of the device is known, so not on a CPU."""
TRAINING_SECONDS, TRAINING_STEPS, TRAINING_DOCUMENTS = "train/seconds", "train/steps", "train/documents"
TRAINING = (
    DATA_WAIT_SHARE, TRAINING_DOCUMENTS, DOCUMENTS_PER_SECOND, GRADIENT_NORM, LOSS, LEARNING_RATE, MEMORY_GIB, SHARE_OF_PEAK,
    NON_PADDING_SHARE, TRAINING_SECONDS, TRAINING_STEPS, TOKENS_PER_SECOND,
)  # fmt: skip

VALIDATION_LOSS = "validation/loss"
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
VALIDATION = (VALIDATION_LOSS, *(f"validation/{measure}" for measure in ROUGE))
"""What a validation is judged by."""
BASELINES = ("lead1", "is_a")
"""Baselines that a validation scores on the rows it summarizes, to be drawn as lines beside the model."""
BASELINE_MEASURE = "rougeL"
WORDS, NOVEL = "summary_words", "novel_2gram"
SAMPLES = "samples"
OBJECTIVE = "objective"
"""`sweep.metric` of the checkpoint that is kept, logged at the end."""

DOLLARS = "money/dollars"
GPU_HOURS = "money/gpu_hours"
RENTAL = "rental"
"""The config entry of where a run runs and what an hour costs; its keys are in `summarizer.rental`."""


def scored(split: str, measure: str, baseline: str | None = None) -> str:
    """`test/rougeL`, or `test/lead1/rougeL` for a baseline."""
    return "/".join(part for part in (split, baseline, measure) if part)


UTILIZATION = "utilization"
"""GPU utilization over training and evaluation, percent; not on a CPU."""


def utilization_in(stage: str) -> str:
    """GPU utilization of one stage."""
    return f"{UTILIZATION}/{stage}"


def measured_at_validation() -> set[str]:
    """All that a training logs of a validation."""
    rules = {scored("validation", BASELINE_MEASURE, rule) for rule in BASELINES}
    return {*VALIDATION, *rules, scored("validation", WORDS), scored("validation", NOVEL)}


def minutes(stage: str) -> str:
    """Minutes that a job spent in a stage."""
    return f"minutes/{stage}"

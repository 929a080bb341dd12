"""How long a job will take, before anything is rented: from jobs that this user has run, else from figures measured by us.

Imports nothing heavy: a launcher calls it while it plans. An estimate, not a promise; `provider.max_hours` is the bound.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from summarizer.cards import peak_flops
from summarizer.hardware import usable_cores, world_size_of
from summarizer.metric_names import TOKENS_PER_SECOND

if TYPE_CHECKING:
    from omegaconf import DictConfig

MEASURED = {
    # model: real tokens a second on one H200 (docs/performance.md; tiny: docs/recipe.md)
    "tiny": 280_000,
    "t5_base": 445_300,
    "bart_base": 791_100,
}
RELATIVE = {
    # model: (measured one, how much more arithmetic a token costs): the ratio of their weights without embeddings
    "t5_small": ("t5_base", 0.22),
    "flan_t5_base": ("t5_base", 1.14),
    "bart_large": ("bart_base", 3.6),
    "pegasus": ("bart_base", 4.8),
}
MEASURED_ON = "H200"
TOKENS_A_WORD = 1.33
"""English text in the subword vocabularies of T5 and BART, rounded up."""
SUMMARIES_A_SECOND = 20.0
"""Beam 4, 128 tokens, t5-base on the card that the figures are of; other models and cards by their training speed."""
START_SECONDS = 120.0
"""Importing, tokenizing what is not in the cache yet, compiling."""
PROCESSOR = {
    # model: real tokens a second and core, in bfloat16; two cores of an EPYC 9005 had 25,000 each, of a Xeon with AMX 11,000
    "tiny": 15_000,
}
PROCESSOR_FLOAT32 = 0.45
"""The same in float32, relative to that."""
PROCESSOR_SUMMARIES = {"tiny": 12.0}
"""Summaries a second and core: 16 beams, the least risk; the EPYC had 17 (docs/recipe.md)."""
PROCESSOR_START_SECONDS = 60.0
"""Importing, building the corpus, tokenizing."""
MEASURED_CORES = 4
"""More are not expected to help so small a model."""
RECENT = 20
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def time_text(expected: float | None) -> str:
    """Hours as people say them: `about 12 min`."""
    if expected is None:
        return "not known before the first steps"
    return f"about {expected * 60:.0f} min" if expected < 1.5 else f"about {expected:.1f} h"


def hours(config: DictConfig) -> float | None:
    """Expected hours of a composed job on the cards that it asks for, or on this processor.

    Returns:
        None where nothing is known: another task than training, a model never measured there, data of unknown size.
    """
    if config.task != "train":
        return None
    documents, tokens_each = training_documents(config), document_tokens(config)
    if documents is None or tokens_each is None:
        return None
    validated = config.trainer.validations * (config.trainer.validation_samples or 1000)
    tested = config.data.max_test_samples or config.data.expected.test_pairs or 0
    speed = _processor_speed(config) if is_processor(config) else _card_speed(config)
    if speed is None:
        return None
    seconds = speed.start + documents * tokens_each / speed.tokens + (validated + tested) / speed.summaries
    return float(seconds / 3600)


@dataclass(frozen=True)
class _Speed:
    start: float
    """Seconds until the first step."""
    tokens: float
    """Trained a second."""
    summaries: float
    """Written a second."""


def _card_speed(config: DictConfig) -> _Speed | None:
    if not config.hardware.gpu or config.hardware.accelerator not in ("auto", "cuda"):
        return None
    rate = own_rate(config) or known_rate(config.model.name, config.hardware.gpu)
    base = known_rate("t5_base", MEASURED_ON)
    if rate is None or base is None:
        return None
    rate *= world_size_of(config)
    return _Speed(START_SECONDS, rate, SUMMARIES_A_SECOND * rate / base)


def _processor_speed(config: DictConfig) -> _Speed | None:
    model, cores = config.model.name, min(usable_cores(), MEASURED_CORES)
    own, known = own_rate(config), PROCESSOR.get(model)
    if known is None:
        return None
    is_float32 = str(config.hardware.precision).startswith("32")
    rate = own or known * cores * (PROCESSOR_FLOAT32 if is_float32 else 1.0)
    return _Speed(PROCESSOR_START_SECONDS, rate, PROCESSOR_SUMMARIES[model] * rate / known)


def is_processor(config: DictConfig) -> bool:
    """Whether a job will be trained on the processor, as far as can be told without torch."""
    hardware = config.hardware
    if hardware.accelerator != "auto" or hardware.gpu:
        return bool(hardware.accelerator == "cpu")
    return sys.platform == "linux" and not NVIDIA_DRIVER.exists()


def training_documents(config: DictConfig) -> float | None:
    """Documents trained on, counted anew in each epoch; None for data of unknown size without `trainer.max_steps`."""
    limits = []
    sizes = [n for n in (config.data.expected.train_pairs, config.data.max_train_samples) if n]
    if sizes:
        limits.append(min(sizes) * config.trainer.max_epochs)
    if config.trainer.max_steps > 0:
        limits.append(config.trainer.max_steps * config.optim.effective_batch_size)
    return float(min(limits)) if limits else None


def document_tokens(config: DictConfig) -> float | None:
    """Mean tokens of a document and its summary after truncation; those of the longest where the data is not known."""
    expected, model = config.data.expected, config.model
    if not expected.document_words:
        return float(model.max_source_tokens + model.max_target_tokens)
    source = min(expected.document_words * TOKENS_A_WORD, model.max_source_tokens)
    return float(source + min(expected.summary_words * TOKENS_A_WORD, model.max_target_tokens))


def known_rate(model: str, gpu: str) -> float | None:
    """Real tokens a second of training on one card, from our figures, by the ratio of the cards' bfloat16 peaks."""
    measured, cost = RELATIVE.get(model, (model, 1.0))
    peak, reference = peak_flops(gpu), peak_flops(MEASURED_ON)
    if measured not in MEASURED or peak is None or reference is None:
        return None
    return MEASURED[measured] / cost * peak / reference


def own_rate(config: DictConfig) -> float | None:
    """Median tokens a second and device of this user's recent jobs of the same model on the same card, or so many cores."""
    rates = []
    folders = Path("outputs", config.name).glob("*/*/metrics.json")
    for metrics in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[:RECENT]:
        rate = _rate_of(metrics.parent, config)
        if rate:
            rates.append(rate)
    return statistics.median(rates) if rates else None


def _rate_of(folder: Path, config: DictConfig) -> float | None:
    import json

    from omegaconf import OmegaConf
    from yaml import YAMLError

    def read(name: str) -> dict[str, Any]:
        return dict(json.loads((folder / name).read_text()))

    try:
        machine = read("provenance.json")["machine"]
        if is_processor(config):
            if machine["accelerator"] != "cpu" or machine["cores"] != usable_cores():
                return None
        elif machine["accelerator"] != "cuda":
            return None
        then = OmegaConf.load(folder / "config.yaml")
        same = (then.model.name, then.hardware.gpu) == (config.model.name, config.hardware.gpu)
        return (
            read("metrics.json")[TOKENS_PER_SECOND] / (then.trainer.devices * then.hardware.get("nodes", 1))
            if same
            else None
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError, ArithmeticError, YAMLError):
        return None  # a damaged folder, or one of another layout, says nothing

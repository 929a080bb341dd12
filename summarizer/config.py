"""The typed schema of the composed config: one dataclass a group, one field a setting, units in the docstrings.

`conf/` gives the values and is the only place a default stands; what is `MISSING` here must come from an option file.
Hydra merges every option onto these classes, so that a misspelt key or a wrong type fails while composing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from omegaconf import MISSING


class Architecture(StrEnum):
    """How a model is built and fed."""

    copy_transformer = "copy_transformer"  # our own small pointer-generator, trained from scratch
    seq2seq = "seq2seq"  # any encoder-decoder of transformers
    causal_lora = "causal_lora"  # a decoder-only hub model with a LoRA adapter


class Task(StrEnum):
    train = "train"
    evaluate = "evaluate"
    predict = "predict"
    prepare = "prepare"
    report = "report"
    compare = "compare"


@dataclass
class CopyTransformerShape:
    """Size of a copy transformer; `layers` are counted per stack, sizes are in units (not bytes)."""

    vocab_size: int = MISSING
    d_model: int = MISSING
    d_ff: int = MISSING
    num_heads: int = MISSING
    encoder_layers: int = MISSING
    decoder_layers: int = MISSING
    copy_heads: int = MISSING
    """Pointers over the source."""
    source_dropout: float = MISSING
    """Share of the encoder's inputs that training hides."""
    target_dropout: float = MISSING
    """Share of the decoder's inputs that training hides."""
    restoration_weight: float = MISSING
    """Weight of a second loss that has the encoder restore what was hidden."""


@dataclass
class LoraConfig:
    """A low-rank adapter (Hu et al. 2021, arXiv 2106.09685), through `peft`."""

    r: int = MISSING
    alpha: int = MISSING
    dropout: float = MISSING
    target_modules: str | None = None
    """null lets peft choose for the architecture; "all-linear" adapts every linear layer."""


@dataclass
class RecipeConfig:
    """What a model is known to train and write well with; `optim`, `scheduler`, `trainer` and `generation` read it: set those to
    differ."""

    lr: float = MISSING
    batch_size: int = MISSING
    """Documents in one forward pass on one device, at most."""
    effective_batch_size: int = MISSING
    """Documents an optimizer step, whatever the device holds: gradients are accumulated up to it."""
    max_epochs: int = MISSING
    warmup_ratio: float = MISSING
    weight_decay: float = MISSING
    label_smoothing: float = MISSING
    ema_decay: float | None = None
    """Decay of the exponential moving average of the weights, per optimizer step; null trains without."""
    num_beams: int = MISSING
    reranking: str = MISSING
    length_penalty: float = MISSING
    no_repeat_ngram_size: int = MISSING


@dataclass
class ModelConfig:
    name: str = MISSING
    architecture: Architecture = MISSING
    hub_id: str | None = None
    """Id on the hub, or a local folder in the same format."""
    revision: str | None = None
    pretrained: bool = MISSING
    """false builds the same shape with fresh weights (the tokenizer stays the hub's)."""
    source_prefix: str = MISSING
    """Text put before each document, such as T5's "summarize: "."""
    source_suffix: str = ""
    """Text put after each document, which cutting never removes: a decoder-only model's cue that the summary begins."""
    max_source_tokens: int = MISSING
    max_target_tokens: int = MISSING
    positions: int | None = None
    """Tokens that it has learned positions for, so that no document may be longer; null where nothing limits it."""
    dropout: float | None = None
    """null keeps the model's own."""
    gradient_checkpointing: bool = MISSING
    shape: CopyTransformerShape | None = None
    lora: LoraConfig | None = None
    recipe: RecipeConfig = field(default_factory=RecipeConfig)


@dataclass
class DataSize:
    """What the source says of its data; read only by the forecast of a job's hours. null: not known."""

    train_pairs: int | None = None
    test_pairs: int | None = None
    document_words: float | None = None
    """Mean, as `summary_words`."""
    summary_words: float | None = None


@dataclass
class DataConfig:
    name: str = MISSING
    kind: str = MISSING
    """Where the pairs come from: auto, debsum, docstrings, hub or files."""
    hub_id: str | None = None
    config_name: str | None = None
    revision: str | None = None
    """Branch or commit on the hub; `refs/convert/parquet` for sets whose main branch is a loading script."""
    train_split: str | None = "train"
    validation_split: str | None = "validation"
    test_split: str | None = "test"
    train_file: str | None = None
    validation_file: str | None = None
    test_file: str | None = None
    document_column: str = "document"
    summary_column: str = "summary"
    id_column: str | None = None
    max_train_samples: int | None = None
    max_validation_samples: int | None = None
    max_test_samples: int | None = None
    streaming: bool = False
    """Read the training pairs as they come instead of storing them: for data larger than the disk."""
    mirror: str | None = None
    """debsum only: address of a Debian archive to read in place of apt's."""
    cache_dir: str | None = None
    """null: the user's cache folder."""
    source: str = MISSING
    license: str = MISSING
    citation: str = MISSING
    expected: DataSize = field(default_factory=DataSize)


@dataclass
class HardwareConfig:
    name: str = MISSING
    accelerator: str = MISSING
    """auto, cpu, mps or cuda."""
    gpu: str | None = None
    """The canonical card name that launchers look up; null where there is no card to rent."""
    memory_gib: float | None = None
    """Memory of one card."""
    devices: int = MISSING
    precision: str = MISSING
    """A precision name of Lightning, 32-true or bf16-mixed; auto: bf16-mixed where the device multiplies it. fp16 is refused: T5
    overflows in it."""
    scale: str = MISSING
    """local or cloud: `${scaled:a,b}` in an option file means a on local and b on cloud hardware."""
    batch_size: int = MISSING
    """Documents of a base-size pretrained model (some 220 M parameters) in one forward pass."""
    tokens_per_step: int = MISSING
    """Padded source + target tokens in one forward pass on one device, at most."""
    generation_tokens: int = MISSING
    """Source tokens x beams of a base-size model decoded together."""
    max_train_samples: int | None = None
    max_epochs: int = MISSING
    workers: int = MISSING
    """Processes that tokenize and load; 0 loads in the training process, -1 takes every core."""
    compile: bool = MISSING
    attention: str = MISSING
    """An attention implementation of transformers: sdpa or eager."""


@dataclass
class OptimConfig:
    name: str = MISSING
    lr: float = MISSING
    weight_decay: float = MISSING
    betas: list[float] = MISSING
    eps: float = MISSING
    fused: bool | None = None
    """null: fused where the device has it."""
    label_smoothing: float = MISSING
    gradient_clip_norm: float | None = MISSING
    effective_batch_size: int = MISSING
    ema_decay: float | None = None


@dataclass
class SchedulerConfig:
    name: str = MISSING
    """linear, cosine, constant or inverse_sqrt, as named in transformers' optimization module."""
    warmup_steps: int | None = None
    """Optimizer steps; null takes `warmup_ratio` of all steps."""
    warmup_ratio: float = MISSING


@dataclass
class TrainerConfig:
    max_epochs: int = MISSING
    max_steps: int = MISSING
    """Optimizer steps; -1 leaves the end to max_epochs. The learning rate decays over whichever ends first."""
    batch_size: int = MISSING
    packing: str = MISSING
    """auto, always or never: documents laid end to end in place of padded (training only)."""
    strategy: str = MISSING
    """auto, ddp or fsdp."""
    devices: int = MISSING
    validations: int = MISSING
    """How many times a run validates, evenly spaced, the last one at the end."""
    validation_samples: int | None = None
    """Rows that are summarized at each validation; null takes all of the split."""
    checkpoint_every_n_steps: int = MISSING
    log_every_n_steps: int = MISSING
    deterministic: bool = MISSING
    threads: int | None = None
    """CPU threads; null takes the physical cores."""


@dataclass
class GenerationConfig:
    num_beams: int = MISSING
    reranking: str = MISSING
    """none: the most probable beam; mbr: the beam that agrees best with the others (minimum Bayes risk)."""
    length_penalty: float = MISSING
    no_repeat_ngram_size: int = MISSING
    min_new_tokens: int = MISSING
    max_new_tokens: int | None = None
    """null: the model's max_target_tokens."""
    packing: str = MISSING
    """auto: a packed search on CUDA where it can do it, which writes generate()'s tokens sooner; always; never."""
    precision: str = MISSING
    """32-true: in the weights' own type; bf16-mixed: products in bfloat16, faster, and a token may differ now and then."""


@dataclass
class LoggerConfig:
    csv: bool = MISSING
    tensorboard: bool = MISSING
    wandb: bool = MISSING
    project: str = MISSING
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    sample_predictions: int = MISSING
    """Rows of the table of sample predictions logged at each validation."""


@dataclass
class CallbacksConfig:
    monitor: str = MISSING
    mode: str = MISSING
    early_stopping_patience: int | None = None
    """Validations without a better `monitor` before the run stops; null never stops early."""
    progress: bool = MISSING


@dataclass
class ExportConfig:
    push_to_hub: str | None = None
    """Repository id the finished model is pushed to; needs HF_TOKEN in the environment."""
    private: bool = True


@dataclass
class EvaluationConfig:
    splits: list[str] = field(default_factory=lambda: ["test"])
    bootstrap_samples: int = MISSING
    bertscore: bool = MISSING
    bertscore_model: str | None = None


@dataclass
class PredictConfig:
    output: str = MISSING
    """File to write, - for standard output."""
    output_format: str = MISSING
    """auto, text or jsonl."""
    long_input: str = MISSING
    """truncate (with a notice) or windows (each window summarized, the parts joined)."""


@dataclass
class ReportConfig:
    open: bool = MISSING
    """Show the page in the desktop's browser."""
    title: str | None = None
    """null: the name of the compared folder."""


@dataclass
class Config:
    """The whole of a composed job."""

    name: str = MISSING
    seed: int = MISSING
    task: Any = MISSING
    """train, evaluate, predict, prepare, report or compare."""
    run: str | None = None
    """Folder of a finished job (evaluate, predict)."""
    resume: str | None = None
    """Folder of an interrupted job to continue."""
    input: str | None = None
    """predict: a file, a folder, or - for standard input."""
    runs: Any = None
    """report, compare: a folder, a pattern such as outputs/**, or a list of them."""
    output: str | None = None
    """report: the file to write; null writes report.html into the folder that `runs` names."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    provider: Any = MISSING
    optim: OptimConfig = field(default_factory=OptimConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    callbacks: CallbacksConfig = field(default_factory=CallbacksConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

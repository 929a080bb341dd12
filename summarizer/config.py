"""The typed schema of the composed config: one dataclass a group, one field a setting, units in the docstrings.

`conf/` gives the values and is the only place a default stands; what is `MISSING` here must come from an option file.
Hydra merges every option onto these classes, so that a misspelled key or a wrong type fails while composing. Every number has
its range here, every text its choices, and what only some models or data read says so: `checks.py` asks before anything is prepared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from omegaconf import MISSING

from summarizer.fields import PROSE, Choice, ReadBy
from summarizer.ranges import Range

# What each field may be stands with it; upper bounds are far above what anybody means, and below what hangs a job.
MANY = 10**9
COUNT = Range(1, MANY)
FEW = Range(1, 1024)
SIZE = Range(1, MANY)
LENGTH = Range(1, 10_000_000)
SOURCE = Range(8, 10_000_000)
TARGET = Range(2, 10_000_000)
ROWS = Range(1, 10**12)
WORDS = Range(0, MANY, above=True)
EPOCHS = Range(1, 100_000)
SHARE = Range(0, 1, below=True)
DECAY = Range(0, 1, above=True, below=True)
RATE = Range(0, 1e6, above=True)
WEIGHT = Range(0, 1)
RERANKING = Choice("none", "mbr")
FP16 = dict.fromkeys(("16", "fp16"), "fp16 overflows in T5; use bf16-mixed, or 32-true on a card without bf16.")
HUB_MODEL = ReadBy(("seq2seq", "causal_lora"))
HUB_MODEL_FLAG = ReadBy(("seq2seq", "causal_lora"), False)
A_HUB_SET = "a hub data set"
HUB_DATA = ReadBy(("hub",), None, A_HUB_SET)
FILES = ReadBy(("files",), None, "data=files")


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
    dashboard = "dashboard"


@dataclass
class CopyTransformerShape:
    """Size of a copy transformer; `layers` are counted per stack, sizes are in units (not bytes)."""

    vocab_size: Annotated[int, Range(260, 10_000_000)] = MISSING
    d_model: Annotated[int, SIZE] = MISSING
    d_ff: Annotated[int, SIZE] = MISSING
    num_heads: Annotated[int, FEW] = MISSING
    encoder_layers: Annotated[int, FEW] = MISSING
    decoder_layers: Annotated[int, FEW] = MISSING
    copy_heads: Annotated[int, FEW] = MISSING
    """Pointers over the source."""
    source_dropout: Annotated[float, SHARE] = MISSING
    """Share of the encoder's inputs that training hides."""
    target_dropout: Annotated[float, SHARE] = MISSING
    """Share of the decoder's inputs that training hides."""
    restoration_weight: Annotated[float, Range(0, 1000)] = MISSING
    """Weight of a second loss that has the encoder restore what was hidden."""


@dataclass
class LoraConfig:
    """A low-rank adapter (Hu et al. 2021, arXiv 2106.09685), through `peft`."""

    r: Annotated[int, SIZE] = MISSING
    alpha: Annotated[int, SIZE] = MISSING
    dropout: Annotated[float, SHARE] = MISSING
    target_modules: str | None = None
    """null lets peft choose for the architecture; "all-linear" adapts every linear layer."""


@dataclass
class RecipeConfig:
    """What a model is known to train and write well with; `optim`, `scheduler`, `trainer` and `generation` read it: set those to
    differ."""

    lr: Annotated[float, RATE] = MISSING
    batch_size: Annotated[int, COUNT] = MISSING
    """Documents in one forward pass on one device, at most."""
    effective_batch_size: Annotated[int, COUNT] = MISSING
    """Documents an optimizer step, whatever the device holds: gradients are accumulated up to it."""
    max_epochs: Annotated[int, EPOCHS] = MISSING
    warmup_ratio: Annotated[float, SHARE] = MISSING
    weight_decay: Annotated[float, WEIGHT] = MISSING
    label_smoothing: Annotated[float, SHARE] = MISSING
    ema_decay: Annotated[float | None, DECAY] = None
    """Decay of the exponential moving average of the weights, per optimizer step; null trains without."""
    num_beams: Annotated[int, FEW] = MISSING
    reranking: Annotated[str, RERANKING] = MISSING
    length_penalty: Annotated[float, Range(-10, 10)] = MISSING
    no_repeat_ngram_size: Annotated[int, Range(0, 1000)] = MISSING


@dataclass
class ModelConfig:
    name: str = MISSING
    architecture: Architecture = MISSING
    hub_id: Annotated[str | None, HUB_MODEL] = None
    """Id on the hub, a local folder in the same format, or a local GGUF file."""
    gguf_file: Annotated[str | None, HUB_MODEL] = None
    """Name of a GGUF file in hub_id: its weights are dequantized, and its shape and tokenizer are the model's."""
    revision: Annotated[str | None, HUB_MODEL] = None
    trust_remote_code: Annotated[bool, HUB_MODEL_FLAG] = False
    """Run Python code that comes with a hub model; the own class needs none."""
    pretrained: Annotated[bool, HUB_MODEL_FLAG] = MISSING
    """false builds the same shape with fresh weights (the tokenizer stays the hub's)."""
    source_prefix: Annotated[str, PROSE] = MISSING
    """Text put before each document, such as T5's "summarize: "."""
    source_suffix: Annotated[str, PROSE] = ""
    """Text put after each document, which cutting never removes: a decoder-only model's cue that the summary begins."""
    max_source_tokens: Annotated[int, SOURCE] = MISSING
    max_target_tokens: Annotated[int, TARGET] = MISSING
    positions: Annotated[int | None, LENGTH] = None
    """Tokens that it has learned positions for, so that no document may be longer; null where nothing limits it."""
    dropout: Annotated[float | None, SHARE] = None
    """null keeps the model's own."""
    gradient_checkpointing: Annotated[bool, HUB_MODEL_FLAG] = MISSING
    shape: Annotated[CopyTransformerShape | None, ReadBy(("copy_transformer",))] = None
    lora: Annotated[LoraConfig | None, ReadBy(("causal_lora",))] = None
    recipe: RecipeConfig = field(default_factory=RecipeConfig)


@dataclass
class DataSize:
    """What the source says of its data; read only by the forecast of a job's hours. null: not known."""

    train_pairs: Annotated[int | None, ROWS] = None
    test_pairs: Annotated[int | None, ROWS] = None
    document_words: Annotated[float | None, WORDS] = None
    """Mean, as `summary_words`."""
    summary_words: Annotated[float | None, WORDS] = None


@dataclass
class DataConfig:
    name: str = MISSING
    kind: Annotated[str, Choice("auto", "debsum", "docstrings", "hub", "files")] = MISSING
    hub_id: Annotated[str | None, HUB_DATA] = None
    config_name: Annotated[str | None, HUB_DATA] = None
    revision: Annotated[str | None, HUB_DATA] = None
    """Branch or commit on the hub; `refs/convert/parquet` for sets whose main branch is a loading script."""
    train_split: Annotated[str | None, ReadBy(("hub",), "train", A_HUB_SET)] = "train"
    validation_split: Annotated[str | None, ReadBy(("hub",), "validation", A_HUB_SET)] = "validation"
    test_split: Annotated[str | None, ReadBy(("hub",), "test", A_HUB_SET)] = "test"
    train_file: Annotated[str | None, FILES] = None
    validation_file: Annotated[str | None, FILES] = None
    test_file: Annotated[str | None, FILES] = None
    document_column: str = "document"
    summary_column: str = "summary"
    id_column: str | None = None
    max_train_samples: Annotated[int | None, ROWS] = None
    max_validation_samples: Annotated[int | None, ROWS] = None
    max_test_samples: Annotated[int | None, ROWS] = None
    streaming: bool = False
    """Read the training pairs as they come instead of storing them: for data larger than the disk."""
    mirror: Annotated[str | None, ReadBy(("debsum", "auto"), None, "data=debsum")] = None
    """debsum only: address of a Debian archive to read in place of apt's."""
    cache_dir: str | None = None
    """null: the user's cache folder."""
    source: Annotated[str, PROSE] = MISSING
    license: Annotated[str, PROSE] = MISSING
    citation: Annotated[str, PROSE] = MISSING
    expected: DataSize = field(default_factory=DataSize)


@dataclass
class HardwareConfig:
    name: str = MISSING
    accelerator: Annotated[str, Choice("auto", "cpu", "mps", "cuda")] = MISSING
    gpu: str | None = None
    """The canonical card name that launchers look up; null where there is no card to rent."""
    memory_gib: Annotated[float | None, Range(0, 100_000, above=True)] = None
    """Memory of one card."""
    devices: Annotated[int, FEW] = MISSING
    """Cards of one machine."""
    nodes: Annotated[int, FEW] = 1
    """Machines that train one model together, each with as many cards: only where the provider starts them as one job."""
    precision: Annotated[str, Choice("auto", "32-true", "bf16-mixed", "bf16-true", hints=FP16)] = MISSING
    """A precision name of Lightning; auto: bf16-mixed where the device multiplies it."""
    scale: Annotated[str, Choice("local", "cloud")] = MISSING
    """local or cloud: `${scaled:a,b}` in an option file means a on local and b on cloud hardware."""
    batch_size: Annotated[int, COUNT] = MISSING
    """Documents of a base-size pretrained model (some 220 M parameters) in one forward pass."""
    tokens_per_step: Annotated[int, COUNT] = MISSING
    """Padded source + target tokens in one forward pass on one device, at most."""
    generation_tokens: Annotated[int, COUNT] = MISSING
    """Source tokens x beams of a base-size model decoded together."""
    max_train_samples: Annotated[int | None, ROWS] = None
    max_epochs: Annotated[int, EPOCHS] = MISSING
    workers: Annotated[int, Range(-1, 1024)] = MISSING
    """Processes that tokenize and load; 0 loads in the training process, -1 takes every core."""
    compile: bool = MISSING
    attention: Annotated[str, Choice("sdpa", "eager")] = MISSING
    """An attention implementation of transformers."""


@dataclass
class OptimConfig:
    name: Annotated[str, Choice("adamw", "adafactor")] = MISSING
    lr: Annotated[float, RATE] = MISSING
    weight_decay: Annotated[float, WEIGHT] = MISSING
    betas: Annotated[list[float], Range(0, 1, below=True, items=2)] = MISSING
    eps: Annotated[float, Range(0, 1, above=True)] = MISSING
    fused: bool | None = None
    """null: fused where the device has it."""
    label_smoothing: Annotated[float, SHARE] = MISSING
    gradient_clip_norm: Annotated[float | None, Range(0, MANY, above=True)] = MISSING
    effective_batch_size: Annotated[int, COUNT] = MISSING
    ema_decay: Annotated[float | None, DECAY] = None


@dataclass
class SchedulerConfig:
    name: Annotated[str, Choice("linear", "cosine", "constant", "inverse_sqrt")] = MISSING
    """As named in transformers' optimization module."""
    warmup_steps: Annotated[int | None, Range(0, MANY)] = None
    """Optimizer steps; null takes `warmup_ratio` of all steps."""
    warmup_ratio: Annotated[float, SHARE] = MISSING


@dataclass
class TrainerConfig:
    max_epochs: Annotated[int, EPOCHS] = MISSING
    max_steps: Annotated[int, Range(1, MANY, also=-1)] = MISSING
    """Optimizer steps, at most: training ends with `max_epochs` where that is sooner, and -1 leaves the end to it alone. The
    learning rate decays over the steps that are taken."""
    batch_size: Annotated[int, COUNT] = MISSING
    packing: Annotated[str, Choice("auto", "always", "never")] = MISSING
    """auto, always or never: documents laid end to end in place of padded (training only)."""
    strategy: Annotated[str, Choice("auto", "ddp", "fsdp")] = MISSING
    devices: Annotated[int, FEW] = MISSING
    """Processes on each machine."""
    validations: Annotated[int, Range(1, 100_000)] = MISSING
    """How many times a run validates, evenly spaced, the last one at the end."""
    validation_samples: Annotated[int | None, COUNT] = None
    """Rows that are summarized at each validation; null takes all of the split."""
    checkpoint_every_n_steps: Annotated[int, COUNT] = MISSING
    log_every_n_steps: Annotated[int, COUNT] = MISSING
    deterministic: bool = MISSING
    threads: Annotated[int | None, FEW] = None
    """CPU threads; null takes the physical cores."""


@dataclass
class GenerationConfig:
    num_beams: Annotated[int, FEW] = MISSING
    reranking: Annotated[str, RERANKING] = MISSING
    """none: the most probable beam; mbr: the beam that agrees best with the others (minimum Bayes risk)."""
    length_penalty: Annotated[float, Range(-10, 10)] = MISSING
    no_repeat_ngram_size: Annotated[int, Range(0, 1000)] = MISSING
    min_new_tokens: Annotated[int, Range(0, 1_000_000)] = MISSING
    max_new_tokens: Annotated[int | None, LENGTH] = None
    """null: the model's max_target_tokens."""
    packing: Annotated[str, Choice("auto", "always", "never")] = MISSING
    """auto: a packed search on CUDA where it can do it, which writes generate()'s tokens sooner; always; never."""
    precision: Annotated[str, Choice("32-true", "bf16-mixed")] = MISSING
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
    sample_predictions: Annotated[int, Range(0, 100_000)] = MISSING
    """Rows of the table of sample predictions logged at each validation."""


@dataclass
class CallbacksConfig:
    monitor: str = MISSING
    mode: Annotated[str, Choice("min", "max")] = MISSING
    early_stopping_patience: Annotated[int | None, COUNT] = None
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
    bootstrap_samples: Annotated[int, Range(1, 1_000_000)] = MISSING
    bertscore: bool = MISSING
    bertscore_model: str | None = None


@dataclass
class PredictConfig:
    output: str = MISSING
    """File to write, - for standard output."""
    output_format: Annotated[str, Choice("auto", "text", "jsonl")] = MISSING
    long_input: Annotated[str, Choice("truncate", "windows")] = MISSING
    """truncate (with a notice) or windows (each window summarized, the parts joined)."""


@dataclass
class ReportConfig:
    open: bool = MISSING
    """Show the page in the desktop's browser."""
    title: Annotated[str | None, PROSE] = None
    """null: the name of the compared folder."""


@dataclass
class SweepConfig:
    metric: str = MISSING
    """A name in metrics.json: what a task returns, so what jobs are compared by and a search optimizes."""
    direction: Annotated[str, Choice("minimize", "maximize")] = MISSING
    sampler: Annotated[str, Choice("grid", "random", "tpe", "cmaes")] = MISSING
    params: dict[str, str] = field(default_factory=dict)
    """Key -> values, in the grammar of the command line."""
    n_trials: Annotated[int, COUNT] = MISSING
    baseline: bool = MISSING
    """A search begins with the config's own values."""
    seeds: Annotated[int, FEW] = MISSING
    """Jobs per point."""
    pruner: Annotated[str, Choice("none", "median", "halving", "asha")] = MISSING
    min_resource: Annotated[int, COUNT] = MISSING
    """Validations that every job gets."""
    reduction_factor: Annotated[int, Range(2, 1000)] = MISSING
    max_cost: Annotated[float | None, Range(0, MANY, above=True)] = None
    """$ of all jobs together."""
    max_hours: Annotated[float | None, Range(0, MANY, above=True)] = None
    max_jobs: Annotated[int | None, COUNT] = None
    accept_changes: bool = MISSING


@dataclass
class Config:
    """The whole of a composed job."""

    name: str = MISSING
    seed: Annotated[int, Range(0, 2**32 - 1)] = MISSING
    task: Annotated[Any, Choice(*Task)] = MISSING
    run: str | None = None
    """Folder of a finished job (evaluate, predict)."""
    resume: str | None = None
    """Folder of an interrupted job to continue."""
    input: str | None = None
    """predict: a file, a folder, or - for standard input."""
    storage: str | None = None
    """train, prepare: a bucket or folder that holds checkpoints, results and prepared data, such as s3://bucket/prefix."""
    runs: str | None = None
    """report, compare, dashboard: folders or patterns such as outputs/**, separated by commas."""
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
    sweep: SweepConfig = field(default_factory=SweepConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

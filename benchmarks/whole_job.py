"""Whole jobs through the command line: seconds and GPU utilization of each stage, from the start to the model folder.

    python benchmarks/whole_job.py                                        # three jobs on the card that is here
    python benchmarks/whole_job.py --job t5 --rows 20000 -- trainer.max_steps=300
    python benchmarks/whole_job.py --shape tiny --rows 300 --test-rows 40 -- hardware=cpu    # on any machine, in minutes

Jobs: `default` (the copy transformer, its tokenizer learned from the files), `t5` (T5 base) and `lora` (a decoder of half a
billion weights with an adapter), the last two with random weights. Documents are made up, in local files; nothing is
downloaded. What follows `--` is given to every job.

Prints, for each job, a table, then one JSON line a stage: its seconds over all its visits, mean utilization (percent, as
`nvidia-smi` samples it twice a second; none without it), and the longest stretches in which the card was below 5 percent
(`idle`) and in which the job printed nothing (`silence`). Ends with an error if a job does.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from summarizer.stages import Stage, read_stages  # noqa: E402  needs the path above
from summarizer.utilization import sampling  # noqa: E402

# mean words of a document and of its summary: as the default corpus, as news
WORDS = {"default": (110, 9), "t5": (650, 50), "lora": (650, 50)}
IDLE = 5.0  # percent of utilization
VOCABULARY = 20_000
T5_SIZES = {
    "tiny": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
    "large": {"d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16},
}


def write_rows(path: Path, count: int, words: tuple[int, int], seed: int) -> None:
    """Pairs of made-up words, frequent ones frequent; a summary is a stretch of its document."""
    rng = random.Random(seed)
    spelled = random.Random(0)
    vocabulary = ["".join(spelled.choices("abcdefghijklmnopqrstuvwxyz", k=3 + i % 8)) for i in range(VOCABULARY)]
    weights = [1 / (rank + 3) for rank in range(VOCABULARY)]
    cumulated = list(itertools.accumulate(weights))
    with path.open("w") as file:
        for number in range(count):
            length, wanted = (max(6, round(mean * rng.lognormvariate(-0.08, 0.4))) for mean in words)
            text = rng.choices(vocabulary, cum_weights=cumulated, k=length)
            for end in range(15, length, 18):
                text[end] += "."
            start = rng.randrange(max(1, length - wanted))
            row = {"id": str(number), "document": " ".join(text), "summary": " ".join(text[start : start + wanted])}
            file.write(json.dumps(row) + "\n")


def write_model(folder: Path, job: str, shape: str, corpus: Path) -> None:
    """Configuration and tokenizer of a model whose weights are drawn by the job (`model.pretrained=false`)."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    with corpus.open() as rows:
        texts = [json.loads(line)["document"] for _, line in zip(range(2000), rows, strict=False)]
    trainer = trainers.BpeTrainer(
        vocab_size=8000, special_tokens=list(special.values()), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    if job == "t5":
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
        sizes = T5_SIZES.get(shape, T5_SIZES["base"])
        config: Any = transformers.T5Config(
            vocab_size=32128, **sizes, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
            architectures=["T5ForConditionalGeneration"],
        )  # fmt: skip
    else:
        sizes = {
            "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "vocab_size": 151936,
        }  # fmt: skip
        if shape == "tiny":
            sizes = {
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                "num_key_value_heads": 1, "vocab_size": 8192,
            }  # fmt: skip
        config = transformers.Qwen2Config(
            **sizes, max_position_embeddings=32768, tie_word_embeddings=True, pad_token_id=0, eos_token_id=1,
            bos_token_id=1, architectures=["Qwen2ForCausalLM"],
        )  # fmt: skip
    config.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


@dataclass
class Watch:
    """What happened beside a job, by seconds since the epoch."""

    utilization: list[tuple[float, float]] = field(default_factory=list)
    printed: list[float] = field(default_factory=list)

    def run(self, command: list[str], environment: dict[str, str]) -> int:
        """Run a command to its end, its output passed on to standard error; returns its exit code."""
        with sampling() as self.utilization:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            assert process.stdout is not None
            started = time.time()
            self.printed.append(started)
            for line in process.stdout:
                self.printed.append(time.time())
                print(f"{self.printed[-1] - started:7.1f}  {line}", end="", file=sys.stderr, flush=True)
            return process.wait()


def by_stage(entered: list[tuple[float, Stage]], watch: Watch) -> list[dict[str, Any]]:
    """One row a stage, in the order of first visits."""
    rows: dict[Stage, dict[str, Any]] = {}
    samples: dict[Stage, list[float]] = {}
    for (begin, stage), (end, _) in itertools.pairwise(entered):
        row = rows.setdefault(stage, {"stage": stage.value, "seconds": 0.0, "idle_s": 0.0, "silence_s": 0.0})
        row["seconds"] += end - begin
        inside = [(at, percent) for at, percent in watch.utilization if begin <= at < end]
        samples.setdefault(stage, []).extend(percent for _, percent in inside)
        busy = [begin, *(at for at, percent in inside if percent >= IDLE), end]
        printed = [begin, *(at for at in watch.printed if begin <= at < end), end]
        for key, moments in (("idle_s", busy if inside else []), ("silence_s", printed)):
            row[key] = max([row[key], *(b - a for a, b in itertools.pairwise(moments))])
    for stage, row in rows.items():
        taken = samples[stage]
        row["utilization"] = sum(taken) / len(taken) if taken else None
    return [row for stage, row in rows.items() if stage is not Stage.ended]


def measure(job: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    sizes = {"train": options.rows, "validation": options.validation_rows, "test": options.test_rows}
    for seed, (split, count) in enumerate(sizes.items()):
        write_rows(folder / f"{split}.jsonl", count, WORDS[job], seed)
    command = [
        sys.executable, "-m", "summarizer", "data=files", *(f"data.{split}_file={folder}/{split}.jsonl" for split in sizes),
        f"data.cache_dir={folder}/cache", f"hydra.sweep.dir={folder}/run", f"trainer.max_epochs={options.epochs}",
    ]  # fmt: skip
    if job == "default":
        command.append("model=tiny")
    else:
        write_model(folder / "model", job, options.shape, folder / "train.jsonl")
        name = {"t5": "t5_base", "lora": "llm_lora"}[job]
        command += [f"model={name}", f"model.hub_id={folder}/model", "model.pretrained=false"]
    if options.shape == "tiny":
        command += [
            "model.max_source_tokens=64", "model.max_target_tokens=16", "generation.num_beams=2", "optim.effective_batch_size=8",
            "trainer.batch_size=8", "evaluation.bootstrap_samples=50",
        ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), str(ROOT / "launchers"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"}
    watch = Watch()
    code = watch.run([*command, *options.overrides], environment)
    if code:
        sys.exit(f"the job {job} ended with exit code {code}")
    return [{"job": job, **row} for row in by_stage(read_stages(folder / "run" / "0" / "logs"), watch)]


def show(rows: list[dict[str, Any]]) -> None:
    def figure(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    columns = ("seconds", "utilization", "idle_s", "silence_s")
    print(f"{rows[0]['job']:<12}{'seconds':>10}{'util. %':>10}{'idle s':>10}{'silence s':>11}")
    for row in rows:
        seconds, utilization, idle, silence = (figure(row[key]) for key in columns)
        print(f"{row['stage']:<12}{seconds:>10}{utilization:>10}{idle:>10}{silence:>11}")
    print(f"{'all':<12}{sum(row['seconds'] for row in rows):>10.1f}")
    for row in rows:
        print(json.dumps({k: round(v, 1) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", nargs="+", choices=list(WORDS), default=list(WORDS))
    parser.add_argument("--rows", type=int, default=10_000, help="documents to train on")
    parser.add_argument("--validation-rows", type=int, default=500)
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--shape", choices=["published", "tiny"], default="published", help="tiny: to try this script")
    parser.add_argument("overrides", nargs="*", help="after --: given to every job")
    options = parser.parse_args()
    for job in options.job:
        with tempfile.TemporaryDirectory() as folder:
            show(measure(job, options, Path(folder)))


if __name__ == "__main__":
    main()

"""The code of a model card, run without this project, writes the summaries that the job scored: for each family of models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from summarizer.config import Architecture
from summarizer.data.encoding import Encoding, encode
from summarizer.evaluation.evaluate import evaluate_split
from summarizer.export import finish_model_folder
from summarizer.models.loading import build_model, finished_model, load_tokenizer
from summarizer.run import Run
from tests.summarizer.composition import composed
from tests.summarizer.hub_contents import write_model
from tests.summarizer.jobs import ROOT, made_up_pairs

ROWS = 5
LENGTHS = ["model.max_source_tokens=48", "model.max_target_tokens=12"]  # most documents are cut
SMALL = [
    "model.shape.vocab_size=400", "model.shape.d_model=32", "model.shape.d_ff=64", "model.shape.num_heads=2",
    "model.shape.encoder_layers=1", "model.shape.decoder_layers=1",
]  # fmt: skip
BEAMS = ["generation.num_beams=4"]
CASES = {
    "t5_small": [], "flan_t5_base": [], "bart_base": [], "pegasus": [], "led": [], "tiny": SMALL,
    "llm_lora": ["generation.no_repeat_ngram_size=1"],
    "t5_small a suffix, chosen among beams": ["model.source_suffix=' The summary:'", "generation.reranking=mbr"],
    "llm_lora bare, chosen among beams": [
        "model.source_prefix=''", "model.source_suffix=''", "generation.reranking=mbr", "generation.no_repeat_ngram_size=0"
    ],
    "tiny 中文": SMALL,
    "tiny the first beam": [*SMALL, "generation.reranking=none"],
}  # fmt: skip
WITHOUT_PROJECT = """
import importlib.util, json, os, sys
root, jobs = sys.argv[1:]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
sys.path = [entry for entry in sys.path if not (entry + "/").startswith((root + "/summarizer", root + "/launchers"))]
sys.path = [entry for entry in sys.path if entry != root]
# an editable install leaves a folder with the options in site-packages, which Python takes for a package
assert importlib.util.find_spec("summarizer") is None or importlib.util.find_spec("summarizer.config") is None
written = []
for code, folder, documents in json.load(open(jobs)):
    os.chdir(folder)
    names = {"__name__": "card"}
    exec(code, names)
    written.append([names["summarize"](document) for document in documents])
json.dump(written, open(jobs, "w"))
"""


@dataclass
class Rows:
    """A tokenized split in memory."""

    rows: list[dict[str, str]]
    sources: list[list[int]]

    def __len__(self):
        return len(self.rows)

    def source(self, i):
        return torch.tensor(self.sources[i]).numpy()

    def document(self, i):
        return self.rows[i]["document"]

    def summary(self, i):
        return self.rows[i]["summary"]

    def id(self, i):
        return self.rows[i]["id"]


def pairs(case: str) -> list[dict[str, str]]:
    if "中文" not in case:
        return made_up_pairs(ROWS, seed=3)
    texts = [
        "这个程序是快速的音乐编辑器。",
        "它与地图书籍一起工作。",
        "一个小型的邮件客户端。",
        "天气图表查看器。",
        "便携式图书管理器。",
    ]
    return [{"id": str(i), "document": text, "summary": text[:6]} for i, text in enumerate(texts)]


def finished(folder: Path, case: str, hub: Path) -> tuple[Run, list[str], list[str]]:
    """A job's model folder with random weights that mind what they read; the documents and its summaries of them."""
    option = case.split()[0]
    config = composed(
        f"model={option}", "hardware=cpu", "evaluation.bootstrap_samples=5", *LENGTHS, *BEAMS, *CASES[case]
    )
    config.hardware.generation_tokens = (
        1  # one document at a time: in a batch the last digits differ, and such weights make much of them
    )
    rows = pairs(case)
    torch.manual_seed(0)
    if config.model.hub_id:
        write_model(hub, config.model.hub_id)
        config.model.hub_id = str(hub / "models" / config.model.hub_id / "main")
    tokenizer = load_tokenizer(config.model, lambda: [text for row in rows for text in row.values()])
    model = finished_model(build_model(config.model, tokenizer)).eval()
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if (
                weights.dim() == 2 and config.model.hub_id
            ):  # at their small beginning the same is written of every document
                weights.mul_(1.5 / (weights.std() * weights.shape[1] ** 0.5))
            elif weights.dim() == 2:
                weights.mul_(3.0 if "attention" in name or "attn" in name else 1.5)
    if config.model.hub_id and tokenizer.pad_token_id != tokenizer.eos_token_id:
        model.generation_config.suppress_tokens = [tokenizer.pad_token_id]  # which no trained model writes
    limits = (config.model.max_source_tokens, config.model.max_target_tokens)
    causal = config.model.architecture == Architecture.causal_lora
    encoding = Encoding(*limits, config.model.source_prefix, config.model.source_suffix, causal=causal)
    columns = {name: [row[name] for row in rows] for name in ("document", "summary")}
    split = Rows(rows, encode(columns, tokenizer=tokenizer, encoding=encoding)["source"])
    report = evaluate_split(model, tokenizer, split, config, name="test", progress=lambda done, of: None)
    run = Run(folder)
    finish_model_folder(
        run, model, tokenizer, config, report.metrics, "made up", rouge_tokenizer=report.rouge_tokenizer
    )
    return run, report.table["document"], report.table["summary"]


def code_of(run: Run) -> str:
    found = re.search(r"```python\n(.*?)```", (run.model / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Case -> (summaries of the job, those of its card's code); one process runs the code of all."""
    home = tmp_path_factory.mktemp("cards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUMMARIZER_CACHE", str(home / "cache"))
        jobs = {case: finished(home / str(i), case, home / "hub") for i, case in enumerate(CASES)}
    asked = [(code_of(run), str(run.model), documents) for run, documents, _ in jobs.values()]
    (home / "jobs.json").write_text(json.dumps(asked))
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-c", WITHOUT_PROJECT, str(ROOT), str(home / "jobs.json")],
        cwd=home, env={"HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"}, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "[y/N]" not in done.stdout
    answers = json.loads((home / "jobs.json").read_text())
    return {case: (job[2], answer) for (case, job), answer in zip(jobs.items(), answers, strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_a_card_s_code_writes_the_job_s_summaries(case, written):
    summaries, answers = written[case]
    assert len(set(summaries)) > 1, "the models do not mind what they read"
    assert answers == summaries

"""The finished model as a folder that transformers loads: weights, tokenizer, model card; and its way to the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from summarizer.errors import HubError, OutputError
from summarizer.evaluation.report import TITLES
from summarizer.evaluation.words import PUBLISHED
from summarizer.run import Run
from summarizer.usage import usage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CARD = """\
---
{language}pipeline_tag: summarization
library_name: transformers
tags: [summarization, {model}]
license: {license}
---
# {title}

A summarizer trained by `python -m summarizer` on **{data}**.

## Use

{usage}

## Results

ROUGE F1 and chrF x 100 on {measured_on}. Written with the settings of `generation:`
below, as the code above does.

{table}

## How it was trained

- data: {data} ({source}); license of the texts: {data_license}
- commit: {commit}{dirty}
- started: {started}; machine: {machine}
- everything composed:

```yaml
{config}
```
"""


def finish_model_folder(
    run: Run,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    config: DictConfig,
    metrics: Mapping[str, float],
    corpus_name: str,
    *,
    language: str | None = None,
    rouge_tokenizer: str = PUBLISHED,
) -> None:
    """Write `<run>/model`, all of it or nothing.

    Args:
        language: of the data, for the card; None says nothing of it.
        rouge_tokenizer: by which the job chose among beams, see `evaluation.words`.

    Raises:
        OutputError: the folder cannot be written; the checkpoints are untouched.
    """
    temporary = run.folder / ".model.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    if model.config.model_type == "copy_transformer":
        # the class's own source travels with the weights, so that the folder loads where this project is not installed
        model.register_for_auto_class("AutoModelForSeq2SeqLM")
        model.config.register_for_auto_class()
    model.generation_config = search_defaults(model, config, tokenizer)
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "README.md").write_text(
            model_card(run, config, metrics, corpus_name, usage(config, model, tokenizer, rouge_tokenizer), language),
            encoding="utf-8",
        )
        shutil.rmtree(run.model, ignore_errors=True)
        temporary.rename(run.model)
    except OSError as error:
        raise OutputError(
            f"{run.model} cannot be written ({error.strerror}): free disk space and run resume={run.folder}; the checkpoints are kept."
        ) from error


def search_defaults(model: Any, config: DictConfig, tokenizer: PreTrainedTokenizerBase) -> Any:
    """What generate() does when it is asked for nothing: this run's search."""
    from summarizer.evaluation.generation import generation_options

    options = generation_options(model, config.generation, tokenizer)
    options.num_return_sequences = 1
    if options.num_beams == 1:
        options.length_penalty = 1.0  # transformers refuses to save settings that would do nothing
    return options


def results_table(metrics: Mapping[str, float], split: str) -> str:
    """The model and every baseline of one split as a Markdown table."""
    lines = [f"| system | {' | '.join(TITLES.values())} |", "| --- " * (len(TITLES) + 1) + "|"]
    systems = {key.split("/")[1] for key in metrics if key.startswith(f"{split}/") and key.count("/") == 2}
    for system in ["", *sorted(systems)]:
        prefix = f"{split}/{system}/" if system else f"{split}/"
        values = [metrics.get(prefix + measure) for measure in TITLES]
        if values[2] is None:
            continue
        low, high = metrics.get(f"{split}/rougeL_low"), metrics.get(f"{split}/rougeL_high")
        name = system or "**this model**" + (f" ({low:.2f} to {high:.2f})" if low is not None else "")
        lines.append(f"| {name} | " + " | ".join("" if v is None else f"{v:.2f}" for v in values) + " |")
    return "\n".join(lines)


def model_card(
    run: Run, config: DictConfig, metrics: Mapping[str, float], corpus_name: str, code: str, language: str | None = None
) -> str:
    facts = json.loads(run.provenance_file.read_text()) if run.provenance_file.exists() else {}
    if config.evaluation.splits:
        split = config.evaluation.splits[0]
        rows = metrics.get(f"{split}/rows", 0)
        measured_on = f"the {split} split ({rows:.0f} rows), 95 % bootstrap interval of ROUGE-L"
    else:
        split = "validation"
        measured_on = "the validation rows that chose this checkpoint; no other split was evaluated"
    machine = facts.get("machine", {})
    return CARD.format(
        language=f"language: {language}\n" if language else "",
        title=f"{config.model.name} on {corpus_name}",
        model=config.model.name,
        data=corpus_name,
        license="other",
        usage=code,
        measured_on=measured_on,
        table=results_table(metrics, split),
        source=config.data.source,
        data_license=config.data.license,
        commit=facts.get("commit") or "unknown",
        dirty=" with uncommitted changes (changes.diff)" if facts.get("dirty") else "",
        started=facts.get("started", "unknown"),
        machine=f"{machine.get('device', '')} ({machine.get('accelerator', '')}), {machine.get('cores', '?')} cores",
        config=OmegaConf.to_yaml(config, resolve=True).rstrip(),
    )


def push_to_hub(run: Run, repository: str, *, private: bool) -> None:
    """Upload the model folder; the token comes from the environment (HF_TOKEN).

    Raises:
        HubError: no token, no right, or no network.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=run.model, commit_message="Model trained by summarizer")
    except Exception as error:  # also what the HTTP library below raises, which has changed twice
        raise HubError(
            f"the model could not be pushed to {repository} ({' '.join(str(error).split())[:160]}): check the network, HF_TOKEN "
            "and the repository's name."
        ) from error

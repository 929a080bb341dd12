"""Python code that a model card gives: it writes the job's own summaries where only the model's folder and transformers are.

Its text is put together from the parts that a model needs, so that a reader sees no case that is not his.
"""

from __future__ import annotations

import json
from typing import Any

from omegaconf import DictConfig

from summarizer.config import Architecture
from summarizer.evaluation.words import INVISIBLE, PUBLISHED, UNICODE_WORD

FOREIGN_CODE = """
The folder's own Python files build the model; `trust_remote_code=True` runs them. Read them first if you do not know where the folder
comes from. Without it, transformers asks on the terminal, and refuses where there is none.
"""
RERANKING = """
The job took, of the beams, the one that agrees best with the others (minimum Bayes risk), as the code does with
`pip install rouge-score{more}`; `generate()` alone writes the most probable beam.
"""


def usage(config: DictConfig, model: Any, tokenizer: Any, rouge_tokenizer: str = PUBLISHED) -> str:
    """The code and what is to know before it is run, as Markdown.

    Args:
        config: the job's.
        model: the finished one.
        tokenizer: the finished model's.
        rouge_tokenizer: by which the job chose among beams, see `evaluation.words`.
    """
    foreign = model.config.model_type == "copy_transformer" or config.model.trust_remote_code
    reranked = reranks(config)
    more = "" if rouge_tokenizer == PUBLISHED else " regex"
    notes = (FOREIGN_CODE if foreign else "") + (RERANKING.format(more=more) if reranked else "")
    return f"```python\n{code(config, model, tokenizer, rouge_tokenizer, foreign=foreign)}\n```\n{notes}".rstrip()


def reranks(config: DictConfig) -> bool:
    return bool(config.generation.reranking == "mbr" and config.generation.num_beams > 1)


def code(config: DictConfig, model: Any, tokenizer: Any, rouge_tokenizer: str, *, foreign: bool) -> str:
    causal = config.model.architecture == Architecture.causal_lora
    auto = "AutoModelForCausalLM" if causal else "AutoModelForSeq2SeqLM"
    trust = ", trust_remote_code=True" if foreign else ""
    head = ["import torch", f"from transformers import {auto}, AutoTokenizer"]
    load = [
        'folder = "."  # this folder, or the name of its repository on the hub',
        f"tokenizer = AutoTokenizer.from_pretrained(folder{trust})",
        f"model = {auto}.from_pretrained(folder, dtype=torch.float32{trust}).eval()",
    ]
    options = ["ids", "attention_mask=torch.ones_like(ids)"]
    body, after = source(config, tokenizer, causal), []
    if model.config.model_type == "led":
        body.append("first = torch.zeros_like(ids).index_fill_(1, torch.tensor(0), 1)  # it sees the whole document")
        options.append("global_attention_mask=first")
    size = config.generation.no_repeat_ngram_size
    if causal and size:
        head[1] = f"from transformers import {auto}, AutoTokenizer, LogitsProcessorList, NoRepeatNGramLogitsProcessor"
        after += [
            "",
            "",
            f"class NoRepetition(NoRepeatNGramLogitsProcessor):  # no {size} tokens twice in a summary; generate() counts the document too",
            "    def __call__(self, ids, scores):",
            "        return super().__call__(ids[:, self.prompt :], scores)",
        ]
        body += [f"rule = NoRepetition({size})", "rule.prompt = ids.shape[1]"]
        options += ["logits_processor=LogitsProcessorList([rule])", "no_repeat_ngram_size=0"]
    if reranks(config):
        more_head, choice = choosing(rouge_tokenizer)
        head, after = more_head + head, after + choice
        options.append("num_return_sequences=model.generation_config.num_beams")
    body.append(f"written = model.generate({', '.join(options)})")
    body.append(
        f"texts = tokenizer.batch_decode(written{'[:, ids.shape[1] :]' if causal else ''}, skip_special_tokens=True)"
    )
    body.append(f"return {'chosen([text.strip() for text in texts])' if reranks(config) else 'texts[0].strip()'}")
    function = ["def summarize(document):", *(f"    {line}" for line in body)]
    return "\n".join([*head, "", *load, *after, "", "", *function, "", "", 'print(summarize("A document ..."))'])


def source(config: DictConfig, tokenizer: Any, causal: bool) -> list[str]:
    """Lines that make a document's ids as training did: `data.encoding`."""
    model = config.model
    prefix, suffix = model.source_prefix, model.source_suffix
    text = f"{json.dumps(prefix, ensure_ascii=False)} + document" if prefix else "document"
    limit = str(model.max_source_tokens)
    if not (suffix or causal):
        return [f'ids = tokenizer({text}, truncation=True, max_length={limit}, return_tensors="pt").input_ids']
    lines = []
    if suffix:
        lines.append(
            f"suffix = tokenizer({json.dumps(suffix, ensure_ascii=False)}, add_special_tokens=False).input_ids"
        )
        limit += " - len(suffix)"
    lines.append(f"ids = tokenizer({text}, truncation=True, max_length={limit}).input_ids")
    eos = tokenizer.eos_token_id
    ends = [f"ids = ids[:-1] if ids[-1:] == [{eos}] else ids"] if eos is not None else []
    lines += ends
    whole = "ids + suffix" if suffix else "ids"
    if suffix and not causal and eos is not None:
        lines.append(f"ids = (ids + suffix)[: {model.max_source_tokens} - 1] + [{eos}]")
        whole = "ids"
    return [*lines, f"ids = torch.tensor([{whole}])"]


def choosing(rouge_tokenizer: str) -> tuple[list[str], list[str]]:
    """Imports and function of `evaluation.minimum_bayes_risk` by the published package."""
    head = ["from rouge_score.rouge_scorer import RougeScorer"]
    words, how = [], "use_stemmer=True"
    if rouge_tokenizer != PUBLISHED:
        head = ["from unicodedata import normalize", "", "import regex", *head]
        invisible = "".join(map(chr, INVISIBLE)).encode("ascii", "backslashreplace").decode()
        pattern = json.dumps(UNICODE_WORD.pattern)
        words = [
            "class Words:",
            f"    word = regex.compile({pattern}, regex.V1)",
            "",
            "    def tokenize(self, text):",
            f'        seen = text.translate(dict.fromkeys(map(ord, "{invisible}")))',
            '        return self.word.findall(normalize("NFKC", normalize("NFKC", seen).casefold()))',
            "",
            "",
        ]
        how = "tokenizer=Words()"
    return head, [
        "",
        "",
        *words,
        f'scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], {how})',
        "",
        "",
        "def chosen(texts):  # the one that agrees best with the others; an early one counts more",
        "    def worth(i):",
        "        scores = [scorer.score(texts[j], texts[i]).values() for j in range(len(texts))]",
        "        agreed = [3 if i == j else sum(score.fmeasure for score in row) for j, row in enumerate(scores)]",
        "        return sum(value * (len(texts) - j) for j, value in enumerate(agreed))",
        "",
        "    return texts[max(range(len(texts)), key=worth)]",
    ]

"""Scores of the rules, kept beside the tokens: they depend on the data alone, and jobs on the same data are many."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from summarizer.data.store import MARK, built_once, read_mark
from summarizer.errors import OutputError
from summarizer.evaluation.baselines import NAMES
from summarizer.evaluation.rouge import ROUGE

log = logging.getLogger(__name__)

FOLDER = "baselines"  # of the cache
RULES = "1"  # how rules and scores are reckoned; another value scores anew
FILE = "scores.f64"  # float64, little-endian [rows, rules, measures]


def entry(cache: Path, documents: Iterable[str], references: Iterable[str], tokenizer: str) -> Path:
    """The folder of one split's scores, named by its texts and by how they are scored."""
    digest = hashlib.sha256(json.dumps([RULES, NAMES, ROUGE, tokenizer, version("nltk")]).encode())
    for texts in (documents, references):
        for text in texts:
            content = text.encode("utf-8", "surrogatepass")
            digest.update(len(content).to_bytes(8, "little") + content)
    return cache / FOLDER / digest.hexdigest()[:32]


def read(folder: Path, rows: int) -> np.ndarray | None:
    """[rows, rules, measures] of an entry; None where there is none, or a damaged one, which is then forgotten."""
    mark = read_mark(folder)
    if mark is None:
        return None
    try:
        content = (folder / FILE).read_bytes()
        if hashlib.sha256(content).hexdigest() == mark["notes"]["sha256"]:
            return np.frombuffer(content, dtype="<f8").reshape(rows, len(NAMES), len(ROUGE))
        (folder / MARK).unlink()
    except (OSError, ValueError, KeyError):
        pass
    return None


def write(folder: Path, scores: np.ndarray) -> None:
    """Keep an entry. A cache that cannot be written costs the next job some time, and this one nothing."""
    content = np.ascontiguousarray(scores, dtype="<f8").tobytes()

    def build(into: Path) -> dict[str, str]:
        (into / FILE).write_bytes(content)
        return {"sha256": hashlib.sha256(content).hexdigest()}

    try:
        built_once(folder, build)
    except OutputError as error:
        log.warning("The scores of the baselines are not kept for the next job: %s", error)

"""The Python API refuses what the command line refuses, and imports nothing heavy before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

import summarizer
from summarizer.api import Summarizer
from summarizer.composition import composed
from summarizer.errors import CheckpointError, ConfigError, DataError


def test_the_package_imports_nothing_heavy() -> None:
    code = "import sys, summarizer; sys.exit(any(name in sys.modules for name in ('torch', 'hydra', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_override_that_cannot_be_meant_is_refused_in_the_words_of_the_command_line() -> None:
    with pytest.raises(ConfigError, match="did you mean model"):
        composed(["modle=tiny"])
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        summarizer.train(["optim.lr=-1"])
    with pytest.raises(ConfigError, match="add -m"):
        summarizer.train(["optim.lr=1e-3,1e-4"])


def test_a_running_hydra_of_the_notebook_is_put_back(tmp_path: Path) -> None:
    before = GlobalHydra.instance().hydra
    composed(["optim.lr=1e-4"])
    assert GlobalHydra.instance().hydra is before


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say what kind of model"):
        summarizer.load(tmp_path / "nothing")
    (tmp_path / "config.yaml").write_text("name: x\n")
    with pytest.raises(CheckpointError, match="no finished model"):
        summarizer.load(tmp_path)


@pytest.mark.parametrize(
    ("texts", "words"),
    [([], "no text"), ("", "text 0 is empty"), (["a", " "], "text 1 is empty"), ([3], "not a string")],
)
def test_texts_that_are_none_are_refused(texts: object, words: str) -> None:
    model = Summarizer(None, None, composed(["task=predict", "input=-"]), "none")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        model.summarize(texts)  # type: ignore[arg-type]

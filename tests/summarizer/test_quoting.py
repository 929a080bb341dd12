"""Paths and free text on the command line: every key that holds one takes any signs as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from summarizer.command_line import shape
from summarizer.errors import ConfigError
from summarizer.quoting import OF_HYDRA, WHOLE, quote_text, text_keys
from tests.summarizer.composition import composed

TEXTS = [key for key, listed in text_keys().items() if not listed]
LISTS = [key for key, listed in text_keys().items() if listed]
ODD = [
    "train (1).jsonl", "größe.jsonl", "日本.jsonl", "it's.jsonl", "x[1].jsonl", "a#b", "a;b", "{x}", "[x]", "k=v.jsonl", "a b", "~/x",
    "1e5",    "007", "4090", "true", "a&b",
    "runs/lr=1", 'say "so"', "a\\b c", "C:\\x", "ends\\", "s3://bucket/part-*.jsonl", "user/name", "plain", "(x)",
]  # fmt: skip


def read(argument):
    return OverridesParser.create().parse_override(quote_text(argument)).value()


def test_the_keys_are_those_of_the_schema():
    assert {
        "name",
        "data.train_file",
        "predict.output",
        "model.hub_id",
        "model.source_prefix",
        *WHOLE,
        *OF_HYDRA,
    } <= set(TEXTS)
    assert set(LISTS) == {"evaluation.splits", "logger.tags"}


@pytest.mark.parametrize("key", TEXTS)
def test_any_text_is_taken_as_it_is(key):
    for value in ODD:
        assert str(read(f"{key}={value}")) == value
    assert read(f"{key}=null") is None
    assert quote_text(f"{key}='quoted'") == f"{key}='quoted'"
    assert quote_text(f"{key}=plain") == f"{key}=" + ("'plain'" if key in WHOLE else "plain")


@pytest.mark.parametrize("key", LISTS)
def test_lists_hold_any_text(key):
    assert [str(text) for text in read(f"{key}=[größe, b c,plain]")] == ["größe", "b c", "plain"]


def test_sweeps_and_interpolations_stay_what_they_are(tmp_path, monkeypatch):
    for value in ("a,b", "größe,b c", "1e5,x"):
        override = OverridesParser.create().parse_override(quote_text(f"name={value}"))
        assert override.is_sweep_override()
        assert [getattr(text, "text", text) for text in override.value().list] == value.split(",")
    assert quote_text("name=choice(a,b)") == "name=choice(a,b)"
    assert quote_text("hydra.sweep.dir=runs/${name}") == "hydra.sweep.dir=runs/${name}"
    assert quote_text("optim.lr=1e-4,3e-4") == "optim.lr=1e-4,3e-4"
    assert composed("name=größe", "data.source=of ${name}").data.source == "of größe"
    monkeypatch.chdir(tmp_path)
    Path("one,two.jsonl").touch()
    assert read("data.train_file=one,two.jsonl") == "one,two.jsonl"


def test_a_job_s_folder_of_any_name_is_resumed(tmp_path):
    job = tmp_path / "it's größe, (1)" / "0"
    job.mkdir(parents=True)
    (job / "config.yaml").touch()
    given = dict(argument.split("=", 1) for argument in shape([f"resume={job}"]))
    assert str(read(f"hydra.sweep.dir={given['hydra.sweep.dir']}")) == str(job.parent)
    assert shape(shape([f"resume={job}"])[:1])[1:] == shape([f"resume={job}"])[1:], "as a rented machine gets it"


def test_bytes_that_are_not_utf8_end_in_one_sentence():
    with pytest.raises(ConfigError, match="not UTF-8"):
        quote_text(os.fsdecode(b"data.train_file=caf\xe9.jsonl"))
    arguments = [sys.executable, "-m", "summarizer", b"data.train_file=caf\xe9.jsonl"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_value_that_hydra_cannot_read_says_how_to_quote_it():
    done = subprocess.run([sys.executable, "-m", "summarizer", "optim.lr=a;b"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "optim.lr=\"'...'\"" in done.stderr

"""A hub that refuses, fails or goes away, and data sets in it that hold no pairs: one sentence each, within seconds."""

import json
import logging
import shutil

import pytest

from summarizer import hub as hub_answers
from summarizer.data.corpus import load_corpus
from summarizer.errors import DataError, HubError
from summarizer.models.loading import check_model
from tests.emulators.hub import library_settings, serve
from tests.summarizer.composition import composed
from tests.summarizer.hub_contents import write_model

PAIRS = [{"dialogue": f"a b c {n}", "summary": f"s {n}"} for n in range(6)]
TWO = """---
configs:
- config_name: long
  data_files: [{split: train, path: train.jsonl}]
- config_name: short
  data_files: [{split: train, path: test.jsonl}]
---
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of its own for each test, asked by this process's libraries, without waiting between two requests."""
    monkeypatch.setattr(hub_answers, "ASK_AGAIN_SECONDS", 0.0)
    with serve(tmp_path / "hub") as running:
        for module, name, value in library_settings(running.address, tmp_path / "cache"):
            monkeypatch.setattr(module, name, value)
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the real id, the same for all tests: the client remembers which commit a name stands for."""
    root = tmp_path_factory.mktemp("model")
    write_model(root, "google-t5/t5-small")
    return root / "models"


def put(hub, rows, card=None, **others):
    """A data set of three splits of these rows, in files of one object a line; `others` are texts of files."""
    folder = hub.root / "datasets" / "some" / "set" / "main"
    folder.mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(others.get(split, lines))
    if card:
        (folder / "README.md").write_text(card)


def load(tmp_path, *overrides, splits=("train", "validation")):
    options = ("data=samsum", "data.hub_id=some/set", "data.id_column=null", "hardware=cpu")
    return load_corpus(composed(*options, *overrides).data, splits, cache_dir=tmp_path / "data")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"dialogue": ["a", "b"], "summary": "s"}], r"split train, row 1: dialogue is a list, not text .*data\.document_column"),
        ([{"dialogue": "a", "summary": 5}], r"split train, row 1: summary is a number, not text \(5\)"),
        ([{"dialogue": {"x": "y"}, "summary": "s"}], "row 1: dialogue is a table of named values, not text"),
        ([{"dialogue": None, "summary": "s"}] * 6, "no row has both .*dialogue is null in row 1: set data.document_column"),
        ([{"dialogue": "a", "summary": " "}] * 6, "no row has both .*summary is empty in row 1: set data.summary_column"),
    ],
)  # fmt: skip
def test_rows_that_are_no_text_are_refused_with_their_place(rows, words, streaming, hub, tmp_path):
    put(hub, rows)
    with pytest.raises(DataError, match=f"some/set.*{words}") as caught:
        load(tmp_path, f"data.streaming={streaming}", "trainer.max_steps=2", splits=("train",))
    assert "\n" not in str(caught.value)


def test_a_row_of_a_sample_is_named_by_its_place_in_the_split(hub, tmp_path):
    put(hub, [{"dialogue": None if n != 4 else "a", "summary": 1 if n == 4 else 2} for n in range(6)])
    with pytest.raises(DataError, match="row 5: summary is a number"):
        load(tmp_path, "data.max_train_samples=5")


WHOLE, CUT = '{"dialogue": "a", "summary": "b"}\n', '{"dialogue": "a", "summ\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WHOLE + CUT, r"train\.jsonl, line 2 is no valid JSON"),
        (WHOLE + '{"dialogue": ["a"], "summary": "b"}\n', r"split train, row 2: dialogue is a list, not text"),
        (
            '{"dialogue": "cut \\ud83d", "summary": "b"}\n',
            r"split train.*data=files data\.train_file=hf://\S*train\.jsonl",
        ),
    ],
)
def test_a_broken_file_of_the_hub_is_named_with_its_line(text, words, hub, tmp_path):
    put(hub, PAIRS, train=text)
    with pytest.raises(DataError, match=words) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_with_a_column_more_is_named(hub, tmp_path):
    put(hub, PAIRS, validation="".join(json.dumps({**row, "extra": 1}) + "\n" for row in PAIRS))
    with pytest.raises(
        DataError, match=r"validation\.jsonl has other columns than .*train\.jsonl \(extra more\).*data=files"
    ) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("null", "several configurations: long, short"), ("other", "no configuration other; there are long, short")],
)
def test_configurations_are_listed_with_the_setting_that_chooses(name, words, hub, tmp_path):
    put(hub, PAIRS, TWO)
    with pytest.raises(DataError, match=rf"{words}: choose one with data\.config_name=long"):
        load(tmp_path, f"data.config_name={name}")
    assert len(load(tmp_path, "data.config_name=short", splits=("train",)).splits["train"]) == 6


FAULTS = [
    (401, "answers 401 .*does not accept the token in HF_TOKEN", 1),
    (403, "answers 403 .*no right to it", 1),
    ("gated", "answers 401 .*gated: accept its conditions .*HF_TOKEN", 2),
    (429, "answers 429 .*too many requests .*wait 7 s", 2),
    (500, "answers 500 .*error of its own", 2),
    (503, "answers 503 .*error of its own.*status.huggingface.co", 2),
    ("cut", "cannot be reached .*check the network", 2),
]


def ask(kind, tmp_path):
    if kind == "data":
        return load(tmp_path)
    short = ("hardware=cpu", "model.max_source_tokens=64", "model.max_target_tokens=16")
    return check_model(composed("model=t5_small", *short).model, download=True)


@pytest.mark.parametrize("kind", ["data", "model"])
@pytest.mark.parametrize(("fault", "words", "requests"), FAULTS)
def test_a_hub_that_refuses_is_asked_twice_at_most_and_quoted(
    fault, words, requests, kind, hub, model, tmp_path, caplog
):
    put(hub, PAIRS)
    shutil.copytree(model, hub.root / "models")
    hub.fault = fault
    with pytest.raises(HubError, match=words) as caught:
        ask(kind, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(hub.requests) == requests  # the libraries under this ask each file six times, 20 to 46 seconds long
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert sum("asking once more" in line for line in shown) == (0 if fault in (401, 403, "gated") else 1)


@pytest.mark.parametrize("kind", ["data", "model"])
def test_a_hub_that_answers_the_second_time_is_used(kind, hub, model, tmp_path):
    put(hub, PAIRS)
    shutil.copytree(model, hub.root / "models")
    hub.fault, hub.left = 503, 1
    ask(kind, tmp_path)


@pytest.mark.parametrize("kind", ["data", "model"])
def test_what_is_in_the_cache_is_used_while_the_hub_does_not_answer(kind, hub, model, tmp_path):
    put(hub, PAIRS)
    shutil.copytree(model, hub.root / "models")
    ask(kind, tmp_path)
    hub_answers.forget()
    hub.fault, asked = 503, len(hub.requests)
    ask(kind, tmp_path)
    assert len(hub.requests) == asked + 2


@pytest.mark.parametrize("kind", ["data", "model"])
def test_what_the_hub_does_not_have_is_said_with_where_to_look(kind, hub, tmp_path):
    with pytest.raises(HubError, match=r"answers 404 .*neither the hub nor this machine has it.*HF_TOKEN"):
        ask(kind, tmp_path)

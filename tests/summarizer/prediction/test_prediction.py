"""Texts in, summaries out: every kind of input and output through the package's own doors."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import threading
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from summarizer.config import Architecture
from summarizer.errors import ConfigError, DataError, OutputError
from summarizer.models.copy_transformer import CopyTransformerConfig, CopyTransformerForConditionalGeneration
from summarizer.models.copy_transformer.tokenizer import train_tokenizer
from summarizer.prediction.inputs import Document, Documents
from summarizer.prediction.outputs import write_predictions
from summarizer.prediction.summarize import Prediction, length, predict_texts, windows
from tests.summarizer.jobs import made_up_pairs

LIMIT = 24


@pytest.fixture(scope="module")
def model_and_tokenizer():
    tokenizer = train_tokenizer([row["document"] for row in made_up_pairs(30, seed=0)], 300)
    torch.manual_seed(0)
    shape = {"d_model": 16, "d_ff": 32, "num_heads": 2, "max_target_positions": 16, "max_source_positions": LIMIT}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = CopyTransformerForConditionalGeneration(CopyTransformerConfig(vocab_size=len(tokenizer), **shape, **ids))
    return model, tokenizer


def config(given: object = None, *, output: object = "-", output_format: str = "auto", long_input: str = "truncate"):
    return SimpleNamespace(
        input=given if given is None else str(given),
        data=SimpleNamespace(document_column="document", id_column=None),
        model=SimpleNamespace(
            max_source_tokens=LIMIT, max_target_tokens=16, source_prefix="", source_suffix="",
            architecture=Architecture.copy_transformer,
        ),
        predict=SimpleNamespace(output=str(output), output_format=output_format, long_input=long_input),
        generation=SimpleNamespace(
            num_beams=2, reranking="none", length_penalty=1.0, no_repeat_ngram_size=2, min_new_tokens=1, max_new_tokens=6,
            packing="auto", precision="32-true",
        ),
        hardware=SimpleNamespace(generation_tokens=4096),
    )  # fmt: skip


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_text_file_is_one_document_and_a_jsonl_file_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("First line.\nSecond line.\n")
    (tmp_path / "b.jsonl").write_text('{"id": "x", "document": "One."}\n\n{"document": "Two."}\n')
    assert [d.text for d in Documents(config(tmp_path / "a.txt"))] == ["First line.\nSecond line."]
    found = list(Documents(config(tmp_path)))
    assert [d.text for d in found] == ["First line.\nSecond line.", "One.", "Two."]
    assert found[1].id == "x"
    assert found[2].id.endswith("line 3")


def test_standard_input_is_text_or_jsonl_by_its_first_character(monkeypatch: pytest.MonkeyPatch) -> None:
    standard_input(monkeypatch, "Ein Text: Ü.\n".encode())
    assert [d.text for d in Documents(config("-"))] == ["Ein Text: Ü."]
    standard_input(monkeypatch, b'{"document": "One."}\n{"document": "Two."}\n')
    assert [d.text for d in Documents(config("-"))] == ["One.", "Two."]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n ", "is empty"),
        ("a.txt", b"caf\xe9", r"not UTF-8 \(byte 0xe9 at column 4\)"),
        ("a.txt", "Ein Text".encode("utf-16"), "is UTF-16 text"),
        ("a.txt", b"%PDF-1.7\n%\xe2\xe3", "is a PDF file"),
        ("a", b"PK\x03\x04\x14\x00", "Office document"),
        ("a.PDF", b"%PDF-1.7\n%\xe2\xe3", "is a PDF file"),
        (
            "a.jsonl",
            b'{"document": "One."}\n{"text": "Two."}\n',
            "line 2 has no column document; .*data.document_column",
        ),
        (
            "a.csv",
            b"text,summary\na,b\n",
            "line 2 has no column document; set data.document_column to one of text, summary",
        ),
        ("a.csv", b"document,document\na,b\n", "2 columns named document"),
        ("a.csv", b"document\n", "is empty"),
        ("a.jsonl", b'{"document": ', "line 1 is no valid JSON"),
        ("a.jsonl", b'["One."]', "line 1 is a list, not an object"),
        ("a.jsonl", b'{"document": null}', "line 1: document is null"),
        ("a.jsonl", b'{"document": "  "}', "is empty"),
        ("a.md", None, "does not exist"),
    ],
)
def test_bad_input_is_one_sentence_that_says_where(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        Documents(config(path))
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


ROWS = [{"id": "x", "document": "One, with a comma."}, {"id": "y", "document": "Two."}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLE = 'id,document\nx,"One, with a comma."\ny,Two.\n'
CONTENTS = {
    "a.csv": TABLE.encode(), "A.CSV": TABLE.encode(), "a.csv.gz": gzip.compress(TABLE.encode()), "a.jsonl": LINES.encode(),
    "a.ndjson": LINES.encode(), "a.JSONL": LINES.encode(), "a.json": json.dumps(ROWS).encode(), "a.jsonl.bz2": bz2.compress(LINES.encode()),
    "a.tsv": TABLE.replace('"', "").replace(",", "\t", 1).replace("x,", "x\t").replace("y,", "y\t").encode(),
    "bom.csv": b"\xef\xbb\xbf" + TABLE.encode(), "a.parquet": None,
}  # fmt: skip


@pytest.mark.parametrize("name", CONTENTS)
def test_every_row_of_a_table_is_a_document(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if CONTENTS[name] is None:
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes(CONTENTS[name])
    found = list(Documents(config(path)))
    assert [(d.id, d.text) for d in found] == [(row["id"], row["document"]) for row in ROWS]
    assert found[0].jsonl == ("json" in name.lower())


def test_what_a_folder_holds_and_is_not_read_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in {"a.txt": "A parser.", "b.md": "# An editor.", "D.TXT": "A server.", "c.PDF": "%PDF-"}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "more").mkdir()
    assert [d.text for d in Documents(config(tmp_path))] == ["A server.", "A parser.", "# An editor."]
    [line] = [record.getMessage() for record in caplog.records]
    assert line == f"skipped 2 files of {tmp_path}: c.PDF (not a text format), more/ (a folder)"


def test_a_table_is_read_row_by_row_and_again(tmp_path: Path) -> None:
    text = "a parser for music " * 50
    (tmp_path / "a.csv").write_text("document\n" + f"{text}\n" * 20_000)  # 19 MB
    documents = Documents(config(tmp_path / "a.csv"))
    tracemalloc.start()
    assert sum(1 for _ in documents) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6


def test_a_pipe_is_read_as_standard_input_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text(LINES))
    writer.start()
    documents = Documents(config(tmp_path / "pipe"))
    writer.join()
    assert [[d.id for d in documents] for _ in range(2)] == [["x", "y"], ["x", "y"]]


def test_names_of_any_signs_are_paths(tmp_path: Path) -> None:
    for name in ("x[1].txt", "größe (1).txt", "a=b.txt"):
        (tmp_path / name).write_text("A parser.")
        assert [d.text for d in Documents(config(tmp_path / name))] == ["A parser."]
    assert len(list(Documents(config(f"{tmp_path}/*.txt")))) == 3


def test_no_input_and_a_folder_without_documents(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="input="):
        Documents(config())
    with pytest.raises(DataError, match=r"holds no \.txt"):
        Documents(config(tmp_path))


def test_long_input_is_cut_with_a_notice_or_read_in_windows(model_and_tokenizer, caplog) -> None:
    model, tokenizer = model_and_tokenizer
    long = " ".join(row["document"] for row in made_up_pairs(4, seed=1))
    documents = [Document("short", "A parser."), Document("long", long)]
    short, cut = predict_texts(model, tokenizer, documents, config())
    assert (short.truncated, cut.truncated, cut.windows) == (False, True, 1)
    assert "long is longer than the model reads" in caplog.text
    caplog.clear()
    short, whole = predict_texts(model, tokenizer, documents, config(long_input="windows"))
    assert (short.windows, whole.truncated) == (1, False)
    assert whole.windows > 2
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("long_input", "text"),
    [("truncate", "a parser for music " * 55_000), ("truncate", "x" * (1 << 20)), ("windows", "x" * 20_000)],
    ids=["1 MB of words", "1 MB without a space", "windows without a space"],
)
def test_a_line_of_any_length_is_summarized(model_and_tokenizer, tmp_path: Path, long_input: str, text: str) -> None:
    model, tokenizer = model_and_tokenizer
    (tmp_path / "a.txt").write_text(text)
    given = config(tmp_path / "a.txt", long_input=long_input)
    [found] = predict_texts(model, tokenizer, Documents(given), given)
    assert found.truncated == (long_input == "truncate")
    assert (found.windows > 1) == (long_input == "windows")


@given(st.lists(st.text(alphabet="ab .;\n", max_size=60), max_size=8).map(" ".join).filter(str.strip))
@settings(max_examples=40, deadline=None)
def test_windows_hold_every_word_within_the_limit(model_and_tokenizer, text: str) -> None:
    tokenizer = model_and_tokenizer[1]
    found = windows(tokenizer, text, LIMIT)
    assert all(length(tokenizer, window) <= LIMIT for window in found)
    assert set(text.split()) <= set(" ".join(found).split()) or any(length(tokenizer, w) > LIMIT for w in text.split())


FOUND = [Prediction("x", "a\nparser", False, 1), Prediction("y", "ü", True, 2, jsonl=True)]


@pytest.mark.parametrize(("output_format", "kinds"), [("text", "tt"), ("jsonl", "jj"), ("auto", "tj")])
def test_output_formats(output_format: str, kinds: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_predictions(FOUND, config(output_format=output_format))
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a parser" if kinds[0] == "t" else json.loads(first)["summary"] == "a\nparser"
    expected = {"id": "y", "summary": "ü", "truncated": True, "windows": 2}
    assert second == "ü" if kinds[1] == "t" else json.loads(second) == expected


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    write_predictions(FOUND, config(output=target, output_format="text"))
    assert target.read_text() == "a parser\nü\n"

    def failing():
        yield FOUND[0]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_predictions(failing(), config(output=target, output_format="text"))
    assert target.read_text() == "a parser\nü\n"
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]
    with pytest.raises(OutputError, match=r"predict\.output=.* is a folder"):
        write_predictions(FOUND, config(output=tmp_path))
    with pytest.raises(OutputError, match="does not exist"):
        write_predictions(FOUND, config(output=tmp_path / "gone" / "out.txt"))

"""A user's own files: every format, names of columns, and rows that are no pairs."""

import bz2
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from omegaconf import OmegaConf

from summarizer.config import DataConfig
from summarizer.data.corpus import load_corpus
from summarizer.errors import DataError

ROWS = [{"document": f"text {n}, with a comma and\na line end", "summary": f"sum {n}"} for n in range(5)]


def write(path, rows):
    if path.suffix == ".zst":
        text = "".join(json.dumps(row) + "\n" for row in rows)
        with pa.CompressedOutputStream(str(path), "zstd") as file:
            file.write(text.encode())
    elif path.suffix == ".tsv":
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    elif path.suffix.lower() == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix.lower() == ".csv":
        import csv

        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def load(path, tmp_path, split="train", **settings):
    cfg = OmegaConf.merge(
        OmegaConf.structured(DataConfig), {"name": "files", "kind": "files", f"{split}_file": str(path), **settings}
    )
    return load_corpus(cfg, (split,), cache_dir=tmp_path / "cache").splits[split]


@pytest.mark.parametrize(
    "name", ["a.csv", "A.CSV", "a.jsonl", "a.ndjson", "a.json", "a.parquet", "a.jsonl.gz", "a.jsonl.zst"]
)
def test_every_format_gives_the_same_rows(name, tmp_path):
    found = load(write(tmp_path / name, ROWS), tmp_path)
    assert found.column_names == ["id", "document", "summary"]
    assert [(row["document"], row["summary"]) for row in found] == [(row["document"], row["summary"]) for row in ROWS]


PACKED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.ndjson", "a.json", "a.parquet"])
def test_every_format_is_read_from_every_compression(name, ending, tmp_path):
    rows = [{"document": f"text {n}", "summary": f"sum {n}"} for n in range(3)]
    path = write(tmp_path / name, rows)
    for packed in (path.with_name(name + ending), path.with_name((name + ending).upper())):
        packed.write_bytes(PACKED[ending](path.read_bytes()))
        assert [{"document": row["document"], "summary": row["summary"]} for row in load(packed, tmp_path)] == rows


def test_a_quote_in_a_tsv_file_is_text(tmp_path):
    rows = [{"document": '"Stop it, she said', "summary": "order"}, {"document": "An editor", "summary": "editor"}]
    rows += [{"document": 'He said: not now"', "summary": 'a "quoted" word'}, {"document": "a \r b", "summary": "c"}]
    found = load(write(tmp_path / "a.tsv", rows), tmp_path)
    assert [{"document": row["document"], "summary": row["summary"]} for row in found] == rows


def test_half_a_character_is_replaced_and_a_whole_one_kept(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"document": "cut \\ud83d here \\ud83d\\ude00", "summary": "\\ude00"}\n')
    assert load(tmp_path / "a.jsonl", tmp_path)[0] == {"id": "0", "document": "cut \ufffd here 😀", "summary": "\ufffd"}


def test_a_name_that_looks_like_a_pattern_is_a_file_where_it_is_there(tmp_path):
    write(tmp_path / "x[1].jsonl", ROWS)
    assert len(load(tmp_path / "x[1].jsonl", tmp_path)) == 5


def test_columns_of_other_names_and_ids_of_ones_own(tmp_path):
    rows = [{"key": f"k{n}", "article": "a b", "highlights": "c"} for n in range(3)]
    path = write(tmp_path / "a.csv", rows)
    found = load(path, tmp_path, document_column="article", summary_column="highlights", id_column="key")
    assert found["id"][:] == ["k0", "k1", "k2"]


def test_a_pattern_names_several_files_in_order(tmp_path):
    for number in (2, 1):
        write(tmp_path / f"part-{number}.jsonl", [{"document": f"from {number}", "summary": "s"}])
    assert load(f"{tmp_path}/part-*.jsonl", tmp_path)["document"][:] == ["from 1", "from 2"]


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    assert len(load(path, tmp_path)) == 5
    write(path, ROWS[:2])
    assert len(load(path, tmp_path)) == 2


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"document": f"d{n}", "summary": "s"} for n in range(50)])
    few, more = (load(path, tmp_path, max_train_samples=n)["document"][:] for n in (5, 20))
    assert more[:5] == few
    assert few != [f"d{n}" for n in range(5)]


def test_streamed_rows_are_those_of_the_file(tmp_path):
    path = write(tmp_path / "a.jsonl", ROWS)
    assert [row["document"] for row in load(path, tmp_path, streaming=True)] == [row["document"] for row in ROWS]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "is empty"),
        ("head.csv", b"document,summary\n", "holds no rows"),
        ("column.csv", b"article,summary\na,b\n", r"no column document; .*data\.document_column.*article"),
        ("near.csv", b"documents,summary\na,b\n", "did you mean data.document_column=documents"),
        ("blank.csv", b'document,summary\n"  ",b\n', "line 2: document is empty"),
        ("latin.csv", b"document,summary\nok,fine\ncaf\xe9,b\n", r"line 3 is not UTF-8 \(byte 0xe9"),
        ("null.jsonl", b'{"document": "a", "summary": null}\n', "line 1: summary is null"),
        ("number.jsonl", b'{"document": ["a"], "summary": "b"}\n', "document is a list, not text"),
        ("list.jsonl", b"[1]\n", "is a list, not an object"),
        ("broken.jsonl", b'{"document": "a", "summary": "b"}\n{"document"\n', "line 2 is no valid JSON"),
        ("wide.csv", b"document,summary\na,b,c\n", "3 fields, but the header has 2"),
        ("narrow.csv", b"document,summary\na\n", "summary is null"),
        ("broken.parquet", b"PAR1 but not really", "no whole Parquet file"),
        (
            "broken.jsonl.gz",
            gzip.compress(b'{"document": "a", "summary": "b"}\n' * 99, mtime=0)[:-9],
            "check that the file is whole",
        ),
        ("twice.csv", b"document,summary,summary\na,b,c\n", "2 columns named summary"),
        ("twice.tsv", b"document\tsummary\tsummary\na\tb\tc\n", "2 columns named summary"),
        ("twice.jsonl", b'{"document": "a", "summary": "b", "summary": "c"}\n', "line 1 has 2 columns named summary"),
        ("twice.json", b'[{"document": "a", "summary": "b", "summary": "c"}]', "row 1 has 2 columns named summary"),
        ("semicolons.csv", b"document;summary\na;b\n", "separated by semicolons: a .csv file needs commas"),
        ("tabs.csv", b"document\tsummary\na\tb\n", "separated by tabs"),
        ("lines.tsv", b'document\tsummary\n"a\nb"\tc\n', "line 2 has 1 field, but the header has 2: .*line ends"),
        ("wide.tsv", b"document\tsummary\na\tb\tc\n", "3 fields, but the header has 2"),
        ("utf16.csv", "document,summary\na,b\n".encode("utf-16"), "is UTF-16 text: .*iconv -f UTF-16"),
        ("utf16.jsonl", b"\xff\xfe{\x00", "is UTF-16 text"),
        ("report.csv", b"%PDF-1.7\n", "is a PDF file"),
        ("book.csv", b"PK\x03\x04\x14", "zip archive or an Office document"),
        (
            "packed.csv",
            gzip.compress(b"document,summary\na,b\n", mtime=0),
            "compressed by gzip: give it the ending .gz",
        ),
        ("zeros.csv", b"a\x00b\n", "a binary file"),
        ("text.docx", b"x", "ending that is not known"),
        ("report.pdf", b"%PDF-1.7\n", "is a PDF file"),
        ("book.docx", b"PK\x03\x04\x14", r"Office document \(docx, xlsx"),
        ("table.data", b"PAR1 and so on", "a Parquet file: give it the ending .parquet"),
        ("rows.parquet", b"document,summary\na,b\n", "no Parquet file, but text: give it the ending"),
        ("more.parquet", b"PK\x03\x04\x14", "no Parquet file, but a zip archive"),
        ("cut.parquet.xz", lzma.compress(b"PAR1" * 9999)[:-9], "no whole Parquet file"),
        ("a.txt", b"a text", "plain text, with no summary beside it: write pairs"),
        ("a.MD", b"a text", "plain text, with no summary beside it"),
        ("number.json", b'[{"document": 5, "summary": "b"}]', r"row 1: document is a number, not text \(5\)"),
    ],
)
def test_a_file_that_cannot_be_used_ends_in_one_sentence_with_its_place(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        load(path, tmp_path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("missing.csv", "does not exist"),
        ("*.csv", "matches no file"),
        ("ftpx://a/b.csv", "no address"),
        (".", "is a folder"),
    ],
)
def test_a_path_that_names_nothing_ends_in_one_sentence(pattern, words, tmp_path):
    with pytest.raises(DataError, match=words):
        load(tmp_path / pattern if "://" not in pattern else pattern, tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.txt", "b.md", "c.md"], r"plain texts \(2 \.md, 1 \.txt\), with no summaries beside them: write pairs"),
        (["a.csv", "b.csv"], r"a folder \(2 \.csv\): name a file, or files by a pattern such as .*\*\.csv"),
        ([], r"a folder \(no files\)"),
    ],
)
def test_a_folder_is_refused_with_what_lies_in_it(names, words, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("text")
    with pytest.raises(DataError, match=words):
        load(folder, tmp_path)


def test_a_split_without_a_file_is_named_with_what_it_is_for(tmp_path):
    cfg = OmegaConf.merge(OmegaConf.structured(DataConfig), {"name": "files", "kind": "files"})
    with pytest.raises(DataError, match=r"no test split, which is needed to score .*data\.test_file"):
        load_corpus(cfg, ("test",), cache_dir=tmp_path)


def test_a_document_of_a_megabyte_on_one_line_is_read(tmp_path):
    long = "word " * 200_000
    assert load(write(tmp_path / "a.csv", [{"document": long, "summary": "s"}]), tmp_path)["document"][0] == long

"""DebSum from an archive on loopback: its rules, its cache, and what a broken archive ends in."""

import gzip
import shutil

import pyarrow.parquet as parquet
import pytest

from summarizer.data.debsum.build import debsum
from summarizer.data.debsum.text import clean_document, clean_summary
from summarizer.errors import DataError, OutputError
from tests.summarizer.data.archive import SUITES, description, invented, served, stanza, write_archive


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    write_archive(root, dict.fromkeys(SUITES, invented(400)))
    with served(root) as address:
        yield root, address


def rows(built, split):
    return parquet.read_table(built.file(split)).to_pylist()


def every_row(built):
    return [row for split in ("train", "validation", "test") for row in rows(built, split)]


def test_a_mirror_gives_three_splits_and_the_same_lists_the_same_bytes(archive, tmp_path):
    _, address = archive
    one, other = (debsum(tmp_path / name, address, smallest=10) for name in ("a", "b"))
    assert len(rows(one, "train")) > 200
    assert rows(one, "validation")
    assert rows(one, "test")
    assert all(
        one.file(split).read_bytes() == other.file(split).read_bytes() for split in ("train", "validation", "test")
    )


def test_no_source_is_in_two_splits_and_reserved_ones_are_in_none(archive, tmp_path):
    built = debsum(tmp_path / "cache", archive[1], smallest=10)
    sources = [row["source"] for row in every_row(built)]
    assert len(sources) == len(set(sources))
    assert len(sources) + built.counts["split reserved"] == 400 - sum(
        count for name, count in built.counts.items() if name.startswith("dropped")
    )
    assert {path.name for path in built.folder.iterdir()} == {
        "train.parquet",
        "validation.parquet",
        "test.parquet",
        "complete.json",
    }


def test_a_source_that_only_the_unstable_suite_has_is_in_no_split(tmp_path):
    old, young = invented(300), invented(60, start=1000)
    write_archive(tmp_path / "archive", {"bookworm": old, "trixie": old, "sid": old + young})
    with served(tmp_path / "archive") as address:
        built = debsum(tmp_path / "cache", address, smallest=10)
    assert not {f"pkg{number}" for number in range(1000, 1060)} & {row["id"] for row in every_row(built)}
    assert built.counts["split new"] > 0


def test_the_newest_suite_gives_the_text(tmp_path):
    changed = [
        stanza("pkg7", "quite another tool for the same thing", description(7)[1]),
        *invented(7),
        *invented(292, start=8),
    ]
    write_archive(tmp_path / "archive", {"bookworm": invented(300), "trixie": invented(300), "sid": changed})
    with served(tmp_path / "archive") as address:
        found = {row["id"]: row["summary"] for row in every_row(debsum(tmp_path / "cache", address, smallest=10))}
    assert found.get("pkg7", "quite another tool for the same thing") == "quite another tool for the same thing"


@pytest.mark.parametrize(
    ("name", "synopsis", "change", "reason"),
    [
        ("tool-doc", None, None, "generated or auxiliary package"),
        ("tool", "transitional package for othertool here", None, "transitional"),
        ("tool", "two words", None, "summary under 3"),
        ("tool", None, lambda body: " Short text only.", "document under 25"),
        (
            "tool",
            None,
            lambda body: body + "\n .\n" + " Où l'été a déjà été réglé à côté de la fenêtre." * 3,
            "not English",
        ),
        (
            "tool",
            "works with many very new things",
            lambda body: body + "\n It works with many very new things.",
            "verbatim",
        ),
    ],
)
def test_rows_that_teach_nothing_are_dropped_and_counted(tmp_path, name, synopsis, change, reason):
    own_synopsis, body = description(5000)
    bad = stanza(name, synopsis or own_synopsis, change(body) if change else body)
    write_archive(tmp_path / "archive", {suite: [*invented(300), bad] for suite in SUITES})
    with served(tmp_path / "archive") as address:
        built = debsum(tmp_path / "cache", address, smallest=10)
    assert name not in {row["id"] for row in every_row(built)}
    assert sum(count for rule, count in built.counts.items() if reason in rule) == 1


def test_markup_becomes_prose():
    assert clean_summary("fast parser (development files)") == "fast parser"
    assert clean_summary("fast parser - documentation") == "fast parser"
    text = " A parser.\n .\n It reads many formats such as:\n  * one thing\n  * two things\n .\n See https://example.org/x for more of it."
    assert clean_document(text) == "It reads many formats such as: one thing; two things. See for more of it."


def test_a_finished_corpus_is_used_without_a_network(archive, tmp_path):
    _, address = archive
    built = debsum(tmp_path / "cache", address, smallest=10)
    again = debsum(tmp_path / "cache", "http://127.0.0.1:9", smallest=10)
    assert again.folder == built.folder


@pytest.mark.parametrize("damage", ["missing", "short", "unmarked"])
def test_a_half_written_cache_is_built_again(archive, tmp_path, damage):
    _, address = archive
    built = debsum(tmp_path / "cache", address, smallest=10)
    whole = built.file("train").read_bytes()
    if damage == "missing":
        built.file("train").unlink()
    elif damage == "short":
        built.file("train").write_bytes(whole[:100])
    else:
        (built.folder / "complete.json").unlink()
    assert debsum(tmp_path / "cache", address, smallest=10).file("train").read_bytes() == whole


def test_a_failed_build_leaves_nothing_behind(tmp_path):
    with pytest.raises(DataError):
        debsum(tmp_path / "cache", "http://127.0.0.1:9", smallest=10)
    assert [path.name for path in (tmp_path / "cache" / "debsum").iterdir() if not path.name.endswith(".lock")] == []


def damaged(root, how):
    packages = root / "dists" / "sid" / "main" / "binary-amd64" / "Packages.gz"
    if how == "cut off":
        packages.write_bytes(packages.read_bytes()[:-50])
    elif how == "no list":
        packages.unlink()
    elif how == "no suite":
        shutil.rmtree(root / "dists" / "trixie")
    else:
        write_archive(root, dict.fromkeys(SUITES, invented(3)))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("cut off", "not what the mirror promised"),
        ("no list", "answers 404"),
        ("no suite", "answers 404"),
        ("few", "truncated or of a small archive"),
    ],
)
def test_a_broken_mirror_ends_in_one_sentence_that_names_a_way_out(archive, tmp_path, how, words):
    root, address = archive
    damaged(root, how)
    with pytest.raises(DataError, match=words) as caught:
        debsum(tmp_path / "cache", address, smallest=10)
    assert "\n" not in str(caught.value)
    assert "mirror" in str(caught.value)


def test_a_list_that_is_no_gzip_is_called_damaged(archive, tmp_path):
    from summarizer.data.debsum.archive import read_list

    path = tmp_path / "Packages.gz"
    path.write_bytes(gzip.compress(b"Package: x\n")[:-4])
    with pytest.raises(DataError, match="damaged"):
        read_list(path)


@pytest.mark.parametrize(
    ("mirror", "words"), [("http://127.0.0.1:9", "cannot be read"), ("nonsense", "cannot be read")]
)
def test_a_mirror_that_is_not_there_ends_in_one_sentence(tmp_path, mirror, words):
    with pytest.raises(DataError, match=words):
        debsum(tmp_path / "cache", mirror)


def test_without_apt_and_mirror_the_sentence_names_both_ways_out(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match=r"no apt-get.*data\.mirror=.*data=docstrings"):
        debsum(tmp_path / "cache")


def test_a_cache_that_cannot_be_written_ends_in_one_sentence(archive, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="SUMMARIZER_CACHE"):
        debsum(tmp_path / "cache", archive[1], smallest=10)

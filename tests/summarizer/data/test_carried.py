"""Data prepared here travels with a job: the other machine reads the same rows and tokenizes nothing anew."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import DictConfig

from summarizer.data.carried import to_carry
from summarizer.data.corpus import load_corpus
from summarizer.tasks.prepare import prepare_data
from tests.summarizer.composition import composed
from tests.summarizer.data.archive import SUITES, invented, served, write_archive
from tests.summarizer.jobs import TINY, write_corpus


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Carries what a config's job would read to a machine with an empty cache, and makes this process that machine."""

    def move(config: DictConfig) -> Path:
        for name, path in to_carry(config).items():
            target = tmp_path / "carried" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
        monkeypatch.setenv("CARRIED_DATA", str(tmp_path / "carried"))
        monkeypatch.setenv("SUMMARIZER_CACHE", str(tmp_path / "there"))
        return tmp_path / "there"

    monkeypatch.setenv("SUMMARIZER_CACHE", str(tmp_path / "here"))
    return move


def test_token_ids_of_a_users_files_are_found_again_although_the_files_lie_elsewhere(tmp_path, elsewhere):
    here = prepare_data(composed(*TINY, *write_corpus(tmp_path / "files")))
    cache = elsewhere(composed(*TINY, *write_corpus(tmp_path / "files"), "hardware=a100", "model.max_source_tokens=96"))
    (tmp_path / "files").rename(tmp_path / "moved")
    there = prepare_data(composed(*TINY, *(f"data.{s}_file={tmp_path}/moved/{s}.jsonl" for s in here.splits)))
    assert not (cache / "tokenized").exists()
    assert not (cache / "tokenizers").exists()
    assert there.tokenizer.get_vocab() == here.tokenizer.get_vocab()
    assert {split.folder.parent for split in there.splits.values()} == {tmp_path / "carried" / "tokenized"}
    assert all((there.splits["train"].source(i) == here.splits["train"].source(i)).all() for i in range(96))


def test_token_ids_of_other_lengths_stay_where_they_are(tmp_path, elsewhere):
    corpus = write_corpus(tmp_path / "files")
    prepare_data(composed(*TINY, *corpus))
    assert to_carry(composed(*TINY, *corpus))
    assert not to_carry(composed(*TINY, *corpus, "model.max_source_tokens=64"))


@pytest.mark.parametrize("asked", ["auto", "debsum"])
def test_a_corpus_built_here_is_the_corpus_there_and_says_so(asked, tmp_path, elsewhere):
    write_archive(tmp_path / "archive", dict.fromkeys(SUITES, invented(1600)))
    with served(tmp_path / "archive") as address:
        here = load_corpus(composed("data=auto", f"data.mirror={address}").data)
    elsewhere(composed(f"data={asked}"))
    # Nothing could be built any more: the archive is down, and apt would give another corpus.
    there = load_corpus(composed(f"data={asked}", f"data.mirror={address}").data)
    assert (there.name, there.splits["train"].to_list()) == ("debsum", here.splits["train"].to_list())
    assert there.fingerprint("train") == here.fingerprint("train")
    assert "as built where this job came from" in there.notice


def test_a_corpus_that_arrived_damaged_is_not_read(tmp_path, elsewhere):
    write_archive(tmp_path / "archive", dict.fromkeys(SUITES, invented(1600)))
    with served(tmp_path / "archive") as address:
        load_corpus(composed("data=debsum", f"data.mirror={address}").data)
        elsewhere(composed("data=debsum"))
        (train,) = (tmp_path / "carried").rglob("train.parquet")
        train.write_bytes(train.read_bytes()[:-10])
        assert load_corpus(composed("data=debsum", f"data.mirror={address}").data).notice is None

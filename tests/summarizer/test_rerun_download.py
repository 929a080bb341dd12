"""What a rerun reads of a run that lies in a storage, through fsspec's own file systems."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from summarizer.errors import CheckpointError
from summarizer.rerun.download import downloaded, is_address
from tests.summarizer.report.folders import make_run


def stored(tmp_path: Path) -> Path:
    folder = make_run(tmp_path / "2026-01-02" / "3")
    (folder / "changes.diff").write_text("a diff")
    (folder / "new_files" / "summarizer").mkdir(parents=True)
    (folder / "new_files" / "summarizer" / "new.py").write_text("x = 1")
    (folder / "model").mkdir()
    (folder / "model" / "model.safetensors").write_bytes(b"large")
    return folder


def put_into_memory(folder: Path) -> str:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/bucket/2026-01-02/3", recursive=True)
    return "memory://bucket/2026-01-02/3"


@pytest.mark.parametrize("storage", ["file", "memory"])
@pytest.mark.parametrize("ending", ["", "/"])
def test_the_small_files_are_here_and_the_model_is_not(tmp_path: Path, storage: str, ending: str) -> None:
    folder = stored(tmp_path)
    address = folder.as_uri() if storage == "file" else put_into_memory(folder)
    with downloaded(address + ending) as copy:
        assert (copy.parent.name, copy.name) == ("2026-01-02", "3")
        for name in ("config.yaml", "metrics.json", "changes.diff", "new_files/summarizer/new.py"):
            assert (copy / name).read_bytes() == (folder / name).read_bytes(), name
        assert not (copy / "model").exists()
        assert not (copy / "predictions.parquet").exists()
    assert not copy.exists()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("memory://nowhere/0", "no finished training is there"),
        ("file:///nowhere/0", "no finished training is there"),
        ("nosuch://bucket/0", "no address that can be read"),
        ("http://127.0.0.1:9/run", "cannot be reached"),
    ],
)
def test_what_cannot_be_downloaded_is_one_sentence(address: str, words: str) -> None:
    with pytest.raises(CheckpointError, match=words), downloaded(address):
        pass


def test_a_file_that_no_run_writes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stored(tmp_path)
    monkeypatch.setattr("summarizer.rerun.download.LARGEST", 20)
    with pytest.raises(CheckpointError, match="no run writes that"), downloaded(folder.as_uri()):
        pass


def test_an_address_is_told_from_a_path() -> None:
    assert is_address("s3://bucket/0")
    assert not is_address("outputs/name/0")

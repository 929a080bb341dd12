"""What a sweep takes for its data: the files' content, or the commit of a data set on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from summarizer.composition import composed
from summarizer.sweeps import data_digest
from tests.emulators.hub import Hub, commit_of, library_settings, serve
from tests.summarizer.hub_contents import write_dataset


@pytest.fixture
def connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """This process's hub libraries point at an emulator that holds one data set."""
    config = composed(["data=samsum", "hardware=cpu"])
    write_dataset(tmp_path / "hub", str(config.data.hub_id))
    with serve(tmp_path / "hub") as running:
        for module, name, value in library_settings(running.address, tmp_path / "cache"):
            monkeypatch.setattr(module, name, value)
        yield running


def test_data_of_the_hub_is_known_by_its_commit_and_asked_for_once(connected: Hub) -> None:
    config = composed(["data=samsum", "hardware=cpu"])
    branch = connected.revision("datasets", str(config.data.hub_id), "main")
    assert branch is not None
    assert data_digest(config) == commit_of(branch)[:16]
    asked = len(connected.requests)
    data_digest(composed(["data=samsum", "hardware=cpu", "optim.lr=0.1"]))
    assert len(connected.requests) == asked


def test_data_of_files_is_known_by_content(tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_text('{"document": "a", "summary": "b"}\n')
    second.write_text(first.read_text())
    digests = [data_digest(composed(["data=files", f"data.train_file={path}"])) for path in (first, second)]
    assert digests[0] == digests[1]
    second.write_text('{"document": "a", "summary": "c"}\n')
    assert data_digest(composed(["data=files", f"data.train_file={second}"])) != digests[0]

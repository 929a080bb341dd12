"""Every hub data option against a hub on loopback that has the real ids, layouts and columns."""

import pytest

from summarizer.data.corpus import load_corpus
from summarizer.errors import DataError, HubError
from tests.emulators.hub import library_settings, serve
from tests.summarizer.composition import composed
from tests.summarizer.hub_contents import DATASETS, ROWS, write_dataset

OPTIONS = ["cnn_dailymail", "xsum", "samsum", "multi_news", "billsum", "arxiv", "pubmed"]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub")
    for hub_id in DATASETS:
        write_dataset(root, hub_id)
    with serve(root) as running:
        yield running


@pytest.fixture
def connected(hub, tmp_path, monkeypatch):
    """This process's hub libraries, which read HF_ENDPOINT once at import, point at the emulator."""
    for module, name, value in library_settings(hub.address, tmp_path / "hub"):
        monkeypatch.setattr(module, name, value)
    return hub


def option(name, *overrides):
    return composed(f"data={name}", "hardware=cpu", *overrides).data


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_loads_its_splits_as_pairs(name, connected, tmp_path):
    corpus = load_corpus(option(name), cache_dir=tmp_path)
    assert set(corpus.splits) == {"train", "validation", "test"}
    for split in corpus.splits.values():
        assert split.column_names == ["id", "document", "summary"]
        assert all(row["document"].startswith("This program is a") for row in split)
    pairs = sum(len(corpus.splits[split]) for split in ("train", "validation"))
    assert pairs == (ROWS["train"] if name == "billsum" else ROWS["train"] + ROWS["validation"])
    assert len(corpus.splits["test"]) == ROWS["test"]
    assert f"left out (1 of {'validation' if name == 'billsum' else 'train'})" in (corpus.notice or "")


def test_a_sample_of_a_stored_and_of_a_streamed_split(connected, tmp_path):
    stored = load_corpus(option("samsum", "data.max_train_samples=5"), ("train",), cache_dir=tmp_path)
    assert len(stored.splits["train"]) == 5
    streamed = load_corpus(
        option("samsum", "data.streaming=true", "data.max_train_samples=5"), ("train",), cache_dir=tmp_path
    )
    assert len([row["summary"] for row in streamed.splits["train"]]) == 5


@pytest.mark.parametrize(
    ("overrides", "error", "words"),
    [
        (["data.hub_id=someone/nothing"], HubError, "dataset someone/nothing: neither the hub nor this machine has it"),
        (["data.revision=elsewhere"], HubError, "samsum at elsewhere"),
        (["data.train_split=training"], DataError, r"training.*data\.train_split"),
        (["data.validation_split=null"], DataError, r"no validation split: set data\.validation_split"),
        (["data.document_column=dialog"], DataError, r"no column dialog; did you mean data\.document_column=dialogue"),
    ],
)
def test_what_the_hub_lacks_is_named_in_one_sentence(overrides, error, words, connected, tmp_path):
    with pytest.raises(error, match=words) as caught:
        load_corpus(option("samsum", *overrides), cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_an_unreachable_hub_is_said_with_how_to_use_a_local_copy(connected, tmp_path, monkeypatch):
    for module, name, value in library_settings("http://127.0.0.1:9", tmp_path / "empty"):
        monkeypatch.setattr(module, name, value)
    with pytest.raises(HubError, match=r"cannot be reached.*check the network.*data=files"):
        load_corpus(option("xsum"), ("train",), cache_dir=tmp_path / "other")

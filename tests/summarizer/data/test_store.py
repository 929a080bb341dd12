"""The cache: each folder is built once, and who waits for another process says so."""

import logging
import threading

from summarizer.data.store import built_once
from summarizer.tasks.prepare import prepare_data
from tests.summarizer.composition import composed
from tests.summarizer.jobs import TINY, made_up_pairs, write_corpus


def test_a_wait_for_another_process_is_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(into):
        begun.set()
        assert go_on.wait(60)
        return {"by": "the first"}

    first = threading.Thread(target=built_once, args=(tmp_path / "folder", slowly))
    first.start()
    assert begun.wait(60)
    with caplog.filtering(lambda record: go_on.set() or True):  # said before it waits, or it would wait forever
        assert built_once(tmp_path / "folder", lambda into: {"by": "the second"}) == {"by": "the first"}
    first.join()
    assert [str(tmp_path / "folder") in record.getMessage() for record in caplog.records] == [True]


def learned(caplog):
    return sum("learning a tokenizer" in record.getMessage() for record in caplog.records)


def test_a_tokenizer_is_learned_once_for_the_same_rows(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("SUMMARIZER_CACHE", str(tmp_path / "cache"))
    corpus = write_corpus(tmp_path / "corpus")
    one = prepare_data(composed(*TINY, *corpus))
    other = prepare_data(composed(*TINY, *corpus, "seed=5", "model.max_source_tokens=64"))
    assert learned(caplog) == 1
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    prepare_data(composed(*TINY, *corpus, "model.shape.vocab_size=350"))
    assert learned(caplog) == 2
    with (tmp_path / "corpus" / "train.jsonl").open("a") as file:
        file.write('{"id": "x", "document": "Quite other words.", "summary": "words"}\n')
    assert len(prepare_data(composed(*TINY, *corpus)).splits["train"]) == len(made_up_pairs(96, 0)) + 1
    assert learned(caplog) == 3

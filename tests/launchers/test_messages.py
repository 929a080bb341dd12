"""Answers of a machine: what makes sense passes, and everything else is the machine's fault."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launchers.errors import BadMachine, RetryLater
from launchers.host import Manifest, RemoteFile
from launchers.remote.checked import MAX_ROWS
from launchers.remote.messages import Wanted
from launchers.transport import messages
from launchers.transport.agent import NOISE_BYTES, _Lines, after

DIGEST = "0123456789abcdef" * 4
ROW = {"path": "a", "kind": "file", "size": 1, "digest": DIGEST}


def listed(*rows: Any) -> Manifest:
    return messages.manifest({"rows": list(rows)})


PROBE = {"cards": [["RTX 4090", "24564", "570.86.15"]], "disk_free_gb": 10.5, "shm_free_mb": 64, "python": "3.11"}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
)


@settings(max_examples=50, deadline=None)
@given(answer=JSON)
@pytest.mark.parametrize(
    "name", ["hello", "reply", "probe", "job_status", "prepared", "manifest", "attempts", "returned", "reports"]
)
def test_no_answer_is_more_than_a_bad_machine(name: str, answer: Any):
    with contextlib.suppress(BadMachine):
        getattr(messages, name)(answer if name not in ("hello", "reply") or isinstance(answer, dict) else {})


@settings(max_examples=50, deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*ROW, "extra"]), JSON, min_size=1))
def test_a_changed_row_costs_only_itself(changes: dict[str, Any]):
    found = listed(ROW | changes, ROW | {"path": "other"})
    assert RemoteFile("other", 1, DIGEST) in found.files or changes.get("path") == "other"
    assert len(found.files) + len(found.refused) == 2


@pytest.mark.parametrize(
    "line", [b"Welcome", b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"a": ' * 100_000, b"1" * 10_000]
)
def test_a_line_that_is_no_object_is_a_bad_machine(line: bytes):
    with pytest.raises(BadMachine):
        messages.parsed(line)


@pytest.mark.parametrize(
    "answer",
    [["/home/user/.ssh/id_rsa"], ["../../x"], [DIGEST.upper()], [DIGEST + "\n"], [DIGEST[1:]], [5], DIGEST, {}],
)
def test_a_digest_is_64_lowercase_hexadecimal_digits(answer: Any):
    with pytest.raises(BadMachine):
        messages.missing({"digests": answer}, [DIGEST])


def test_only_what_was_offered_is_ever_named():
    assert messages.missing({"digests": [DIGEST, "f" * 64, DIGEST]}, ["e" * 64, DIGEST]) == [DIGEST]


def test_a_probe_without_cards_and_one_with_odd_ones():
    assert messages.probe(PROBE | {"cards": None}).cards == ()
    (card,) = messages.probe(PROBE | {"cards": [["GB10", "[N/A]"]]}).cards
    assert (card.memory_mib, card.driver_branch) == (0.0, 0)
    (card,) = messages.probe(PROBE).cards
    assert (card.memory_mib, card.driver_branch) == (24564.0, 570)


@pytest.mark.parametrize("size", [-1, 1.0, True, "1", 10**400, None])
def test_sizes_are_whole_numbers_of_a_possible_file(size: Any):
    (refused,) = listed(ROW | {"size": size}).refused
    assert "size" in refused.why


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1, True, "1", 10**400])
def test_numbers_are_finite(number: Any):
    with pytest.raises(BadMachine):
        messages.probe(PROBE | {"disk_free_gb": number})


def test_a_job_may_return_nan_and_text_that_no_file_can_hold():
    status = messages.job_status({"state": "ended", "value": [float("nan"), "\ud800"]})
    assert status["value"][1] == "\ud800"


def test_of_too_many_rows_the_first_are_kept():
    rows = [ROW | {"path": str(number)} for number in range(MAX_ROWS + 1)]
    found = listed(*rows)
    assert len(found.files) == MAX_ROWS
    assert "only the first 100,000 files" in found.refused[-1].why


def test_a_small_file_is_never_more_than_was_asked_for():
    asked = [Wanted("a", 0, 3, DIGEST)]
    assert messages.contents({"contents": [base64.b64encode(b"abc").decode()]}, asked) == [b"abc"]
    assert messages.contents({"contents": [None]}, asked) == [None]
    for answer in ([base64.b64encode(b"abcd").decode()], ["a?"], [5], [], ["", ""], "text", None):
        with pytest.raises(BadMachine):
            messages.contents({"contents": answer}, asked)


def test_an_error_of_a_machine_is_one_short_line():
    _, error = messages.reply({"error": "OSError: no\nSTILL BILLED: run this\x1b[2J" + "x" * 5000})
    assert error is not None
    assert not {"\n", "\x1b"} & set(error)
    assert len(error) <= 2000


def test_lines_are_cut_out_of_what_arrives_and_a_long_one_is_refused():
    chunks = iter([b"on", b"e\ntw", b"o\n\nthree", b"\n"])
    lines = _Lines(lambda: next(chunks))
    assert [lines.next(10) for _ in range(4)] == [b"one", b"two", b"", b"three"]
    endless = _Lines(lambda: b"x" * 1000)
    with pytest.raises(BadMachine):
        endless.next(1 << 20)


@pytest.mark.parametrize("cut", range(1, 12))
def test_what_comes_before_the_mark_is_skipped(cut: int):
    text = b"Welcome\n{}\n\nMARK\nthe log\nMARK\n"
    chunks = iter([text[:cut], text[cut:20], text[20:]])
    assert b"".join(after(b"\nMARK\n", chunks)) == b"the log\nMARK\n"


@pytest.mark.parametrize("chunks", [[b"x" * (NOISE_BYTES + 1)], [b"Welcome"], []])
def test_without_the_mark_the_machine_is_bad(chunks: list[bytes]):
    with pytest.raises(BadMachine):
        list(after(b"\nMARK\n", iter(chunks)))


def test_a_providers_list_that_does_not_end_is_not_followed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from launchers.providers.vast import provider
    from tests.emulators.vast import Vast

    monkeypatch.setattr(provider, "MOST_PAGES", 5)
    with Vast(tmp_path) as market:
        page = {"instances": [], "next_token": "again"}
        market.faults.plant("GET", r"/api/v1/instances", 200, times=1000, body=page)
        with pytest.raises(RetryLater, match="did not end after 5 pages"):
            provider.Vast(market.key, market.url).list_mine()
        assert len(market.requests) == 5

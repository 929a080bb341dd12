"""The local copy of a job's log, and how text of others is shown."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launchers.console import guard_console
from launchers.errors import LaunchError
from launchers.job import JobSpec, Results
from launchers.testing import host as fakes
from launchers.testing.clock import VirtualClock
from launchers.testing.launch import FakeLaunch, Schedule
from launchers.text import shown, shown_log
from launchers.transport.logs import LINE_BYTES, KeptLog, LogMirror
from launchers.transport.names import LOG_NAME

NASTY = "\x1b]0;owned\x07\x1b[2J\x9b2J\u202e\u2066\x00\x7f\x08\ud800"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def job(folder: Path, **settings: Any) -> JobSpec:
    return JobSpec("job-0", 0, str(folder), "app", (), "", {"remote_root": "/r", **settings}, {}, 1.0)


@pytest.mark.parametrize("char", "\x1b\x07\x9b\u202e\u2066\x00\x7f\x08\ud800\r\x0b\u2028\u200f")
def test_no_character_that_a_terminal_acts_on_is_shown_as_it_is(char: str):
    assert char not in shown(f"a{char}b")
    assert shown(f"a{char}b").encode()  # can be written anywhere


def test_plain_text_stays_as_it_is():
    text = "loss\t0.5 – é 日本 🎉\nnext"
    assert shown(text) == text
    assert shown(text, lines=False) == text.replace("\n", "\\n")


def test_colors_are_kept_for_a_terminal_and_end_with_the_line():
    line = "\x1b[31mred\x1b[2J"
    assert shown_log(line, colors=True) == "\x1b[31mred\\x1b[2J\x1b[0m"
    assert shown_log(line, colors=False) == "red\\x1b[2J"


def test_our_errors_may_quote_anything():
    assert str(LaunchError(f"the machine said {NASTY}")).isprintable()


@pytest.mark.parametrize("console", [Terminal(), io.StringIO()])
def test_the_console_is_never_raw_and_the_file_always(console: io.StringIO, tmp_path: Path):
    mirror = LogMirror(job(tmp_path), 0, console=console)
    raw = f"begin {NASTY[:-1]} end\nnext\n".encode()
    mirror.feed(raw)
    assert (tmp_path / LOG_NAME).read_bytes() == raw
    assert "\\x1b]0;owned\\x07" in console.getvalue()
    assert not {"\x1b]", "\x07", "\u202e"} & {console.getvalue()[i : i + n] for n in (1, 2) for i in range(200)}


def test_a_line_without_an_end_is_shown_up_to_a_limit_and_costs_what_other_lines_cost(tmp_path: Path):
    console = io.StringIO()
    mirror = LogMirror(job(tmp_path), 0, console=console)
    for _ in range(512):  # 32 MB, of which copying the whole again for each piece would make 8 GB
        mirror.feed(b"x" * (1 << 16))
    mirror.feed(b"\nnext\n")
    lines = console.getvalue().splitlines()
    assert [len(line) < LINE_BYTES + 100 for line in lines] == [True, True]
    assert "only in remote.log" in lines[0]
    assert lines[1] == "next"
    assert mirror.offset == 512 * (1 << 16) + 6


def test_of_a_long_log_the_middle_is_dropped_and_the_offset_stays_true(tmp_path: Path):
    kept = KeptLog(tmp_path / LOG_NAME, 10_000)
    sent = b""
    for number in range(3000):
        line = b"line %d\n" % number
        kept.append(line)
        sent += line
        assert kept.length == len(sent)
        assert kept.path.stat().st_size <= 10_000
    content = kept.path.read_bytes()
    assert content.startswith(sent[:5000])
    assert sent.endswith(content[-2500:])
    assert b"bytes of this log were dropped here, see provider.max_log_mb" in content
    assert KeptLog(kept.path, 10_000).length == len(sent)  # another process goes on at the same byte


def test_a_table_takes_any_text(capsys: pytest.CaptureFixture[str]):
    from launchers.cli.tables import Sheet, show

    nasty = f"[/x] [bold]{NASTY}\n"
    sheet = Sheet(
        "[/title]", ("job", "note"), [{"job": "1", "note": nasty}, {"job": nasty, "note": "x" * 100_000}], nasty
    )
    show(sheet)
    table = capsys.readouterr().out
    assert "[/x] [bold]" in table
    assert not {"\x1b", "\x07", "\u202e"} & set(table)
    show(sheet, as_json=True)
    assert json.loads(capsys.readouterr().out)[0]["note"] == nasty


@pytest.fixture
def closed_console() -> Iterator[Any]:
    """A pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as console:
        yield console


def test_the_log_is_kept_whatever_becomes_of_the_console(tmp_path: Path, closed_console: Any):
    mirror = LogMirror(job(tmp_path), 0, console=closed_console)
    for number in range(60):
        mirror.feed(b"step %d\n" % number)
    mirror.close()
    assert len((tmp_path / LOG_NAME).read_bytes().splitlines()) == 60
    assert not mirror.is_watched


def test_a_message_to_a_closed_console_is_dropped_without_a_traceback(
    closed_console: Any, capsys: pytest.CaptureFixture[str]
):
    logger = logging.getLogger("launchers")
    handler = logging.StreamHandler(closed_console)
    logger.addHandler(handler)
    try:
        guard_console()
        for _ in range(3):
            logger.error("said to nobody")
    finally:
        logger.removeHandler(handler)
    assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def slow_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that comes byte by byte, and mostly after its job has ended."""

    def follow(self: fakes.FakeHost, job: JobSpec, offset: int) -> Iterator[bytes]:
        text = self.machine.jobs[job.id].log(1e12)
        for at in range(offset, len(text)):
            self._pass(5.0)
            yield text[at : at + 1]

    monkeypatch.setattr(fakes.FakeHost, "follow", follow)


def test_the_rest_of_a_log_is_waited_for_as_long_as_it_comes(tmp_path: Path, slow_link: None):
    with VirtualClock() as clock:
        launch = FakeLaunch(tmp_path / "launch", Schedule(), clock).run()
    (record,) = launch.records()
    assert (record.spec.home / LOG_NAME).read_text() == "".join(f"step {n}\n" for n in range(1, 7))
    assert record.note is None


@pytest.mark.parametrize("way", ["ends early", "says nothing"])
def test_a_log_that_does_not_arrive_is_said_to_be_short_and_by_how_much(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def follow(self: fakes.FakeHost, job: JobSpec, offset: int) -> Iterator[bytes]:
        yield b"step 1\n"[offset:]
        self._pass(30.0 if way == "ends early" else 3000.0)

    monkeypatch.setattr(fakes.FakeHost, "follow", follow)
    with VirtualClock() as clock:
        launch = FakeLaunch(tmp_path / "launch", Schedule(), clock).run()
    (record,) = launch.records()
    assert record.results is Results.verified
    assert "35 of 42 bytes of its log did not arrive" in str(record.note)
    assert any("35 of 42 bytes" in line for line in launch.said)


def test_a_console_that_is_full_for_a_while_is_written_to_again(tmp_path: Path):
    class Full(io.StringIO):
        fails = True

        def write(self, text: str) -> int:
            if self.fails:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    console = Full()
    mirror = LogMirror(job(tmp_path), 0, console=console)
    mirror.feed(b"one\n")
    console.fails = False
    mirror.feed(b"two\n")
    assert console.getvalue() == "two\n"
    assert (tmp_path / LOG_NAME).read_bytes() == b"one\ntwo\n"

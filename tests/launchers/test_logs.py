"""The local copy of a job's log, and how text of others is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from launchers.errors import LaunchError
from launchers.job import JobSpec
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

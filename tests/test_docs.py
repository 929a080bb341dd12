"""The pages: links that lead somewhere, commands that compose, messages that the code holds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from launchers.cli.main import parser as launchers_parser
from summarizer.composition import composed

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:bash|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
PROGRAM = re.compile(r"^(?:python -m summarizer|summarizer)\s+(.*)$")
LAUNCHERS = re.compile(r"^(?:python -m launchers|launchers)\b(.*)$")
ELSEWHERE = {
    r"python3 -m venv \.venv && ": "README's two commands, which .ci/run takes from there and runs",
    r"\.venv/bin/|\.ci/run|make docs": "what .ci/run does",
    r"export [A-Z_]+=": "sets a variable",
    r'eval "\$\(launchers completion ': "tests/launchers/test_completion.py",
    r"python -m tests\.emulators\.(?:vast|jarvis|runpod|modal)\b": "each slow test of that provider starts one",
    r"curl http://127\.0\.0\.1:\d+/(?:bill|preempt/)": "a page of the emulator itself, for people (tests/emulators/served.py)",
    r"python -m your_app ": "tests/launchers/example, under the reader's name",
    r"REHEARSAL=|provider\.python=|python -m summarizer .*\$": "tests/test_rented.py",
    r"uv (?:venv|run) ": "by hand: uv is on no machine that runs the tests",
    r"modal token new": "needs an account",
    r"pip install 'summarizer\[dashboards\]'": "needs a published package",
}
"""Beginning of a line that no test of this file reads -> where it is tried, or why it is not."""
NOT_COMPOSED = ("--", "-sc", "rerun=", "resume=")
"""What is no config of a job: Hydra's own flags, and what reads a folder that must be there."""


def slug(heading: str) -> str:
    """An anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_it_and_to_its_heading(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), target
        if anchor:
            headings = {slug(line.lstrip("# ")) for line in file.read_text().splitlines() if line.startswith("#")}
            assert anchor in headings, target


def lines() -> Iterator[tuple[str, str]]:
    """(page, command line) of everything that a page tells its reader to type."""
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                if line.strip() and not line.strip().startswith("#"):
                    yield page.name, line.strip()


def commands() -> list[tuple[str, str]]:
    """(page, arguments) of each summarizer command of the pages."""
    found = {(page, match[1]) for page, line in lines() if (match := PROGRAM.match(line))}
    return sorted((page, words) for page, words in found if not any(mark in words for mark in ("...", "|", "$")))


@pytest.mark.parametrize(("page", "arguments"), commands())
def test_every_command_of_the_pages_composes(page: str, arguments: str) -> None:
    words = [word for word in shlex.split(arguments, comments=True) if word not in ("-m", "--open")]
    if any(word.startswith(NOT_COMPOSED) for word in words):
        return
    swept = ("interval(", "choice(", "range(", "tag(")
    single = [re.sub(r"^([^=\[]+)=([^\[{'(]*?),.*$", r"\1=\2", w) if not w.startswith("runs=") else w for w in words]
    composed([word for word in single if not any(mark in word for mark in swept)])


@pytest.mark.parametrize(("page", "line"), sorted(set(lines())))
def test_every_other_line_is_parsed_or_tried_elsewhere(page: str, line: str) -> None:
    match = LAUNCHERS.match(line)
    if match is not None:
        words = shlex.split(match[1], comments=True)
        words = words[: words.index("|")] if "|" in words else words
        known, rest = launchers_parser().parse_known_args(words)  # anything wrong leaves with exit code 2
        assert not rest or (known.command == "estimate" and all("=" in word for word in rest)), rest
    elif (page, (PROGRAM.match(line) or ("", ""))[1]) not in commands():
        assert [why for pattern, why in ELSEWHERE.items() if re.match(pattern, line)], line


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_tried_elsewhere_is_still_on_a_page(pattern: str) -> None:
    assert any(re.match(pattern, line) for _, line in lines())


def test_every_message_of_the_troubleshooting_page_is_one_of_the_code() -> None:
    source = "\n".join(path.read_text() for room in ("summarizer", "launchers") for path in (ROOT / room).rglob("*.py"))
    source = re.sub(r"\"\s*\n\s*f?\"", "", source)
    messages = re.findall(r"^\| `([^`]+)`", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    assert len(messages) > 15
    for message in messages:
        for part in message.split("..."):
            words = part.strip(" .,:;()`")
            if len(words) > 11 and not words.startswith("STILL BILLED"):
                assert words in source, message


BRITISH = re.compile(
    r"\b\w*(?:catalogue|licence|misspelt|[Nn]eighbour|learnt|labelled|[a-z]{3,}(?:al|ial|ogn|or|tim|ian)is(?:e[ds]?|ing|ation)\b|centre\b)\w*"
)
QUOTED = "Emacs mode to colour-code"
"""Written by others."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_spelled_as_in_america(page: Path) -> None:
    lines = [line for line in page.read_text().splitlines() if QUOTED not in line]
    found = {match[0] for line in lines for match in BRITISH.finditer(line)}
    assert not found, found

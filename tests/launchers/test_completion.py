"""Completion of the `launchers` command, asked by the shells themselves."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launchers.cli.completion import SHELLS, card_names
from launchers.cli.main import parser
from launchers.gpus import find_card
from launchers.job import JobSpec
from launchers.ledger import Ledger

LAUNCH = "20261121-121500-e725"


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """Of a shell that finds the command, and a ledger with a launch of two jobs."""
    (tmp_path / "home").mkdir()
    ledger = Ledger(tmp_path / "home" / "ledger.sqlite")
    jobs = [JobSpec(f"{LAUNCH}-{n}", n, str(tmp_path / str(n)), "app", (), "digest", {}, {}, 1.0) for n in (0, 1)]
    ledger.add_launch(LAUNCH, "/", jobs, 0.0)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"LAUNCHERS_HOME": str(tmp_path / "home"), "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}
    return {"PATH": path, "LC_ALL": "C.UTF-8"} | own


def bash(line: str, variables: dict[str, str]) -> list[str]:
    script = f"""
        eval "$(launchers completion bash)"
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; COMP_WORDS=($COMP_LINE); COMP_CWORD=1
        _python_argcomplete launchers
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=120)
    return [word.strip() for word in done.stdout.splitlines()]


def fish(line: str, variables: dict[str, str]) -> list[str]:
    script = f"launchers completion fish | source; complete -C {line!r}"
    done = subprocess.run(["fish", "-c", script], env=variables, capture_output=True, text=True, timeout=120)
    return [word.split("\t")[0] for word in done.stdout.splitlines()]


def zsh(line: str, variables: dict[str, str]) -> list[str]:
    """What an interactive zsh has on its line after the Tab key; asked for a line with one answer only."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], variables)
    try:
        setup = 'PS1="> "; autoload -Uz compinit && compinit -u; eval "$(launchers completion zsh)"; echo re""ady\n'
        os.write(terminal, setup.encode())
        read_until(terminal, r"ready\r?\n.*> ")
        os.write(terminal, f"{line}\t".encode())
        return [read_until(terminal, rf"launchers ({line.split()[-1]}\S+) ")]
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def read_until(terminal: int, pattern: str) -> str:
    """What the last group of the pattern matches, once it does."""
    said, deadline = "", time.monotonic() + 60
    while (found := re.search(pattern, said, re.DOTALL)) is None:
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 1.0)[0]:
            said += os.read(terminal, 4096).decode(errors="replace")
    return found[found.lastindex or 0]


ASK = {"bash": bash, "fish": fish, "zsh": zsh}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands(shell: str, variables: dict[str, str]):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    assert ASK[shell]("launchers att", variables) == ["attach"]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes_jobs_and_options(shell: str, variables: dict[str, str]):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    ask = ASK[shell]
    assert ask("launchers logs e7", variables) == ["e725", "e725-0", "e725-1"]
    assert ask("launchers reap --al", variables) == ["--all-clients"]
    assert "4090" in ask("launchers offers --gpu 40", variables)


def test_every_card_that_is_proposed_is_one():
    assert len({find_card(name).name for name in card_names()}) > 15


def test_every_command_is_in_the_help():
    assert "completion" in parser().format_help()

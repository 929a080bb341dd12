"""Completion of the `summarizer` command, as docs/get-started.md installs it, asked by the shells themselves."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.launchers.test_completion import read_until

pytestmark = pytest.mark.slow


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "LC_ALL": "C.UTF-8", "HOME": str(tmp_path), "ZDOTDIR": str(tmp_path), "TERM": "dumb"}


def bash(line: str, variables: dict[str, str]) -> list[str]:
    script = f"""
        eval "$(summarizer -sc install=bash)"
        COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE); COMP_CWORD=1
        hydra_bash_completion
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True, timeout=120)
    return done.stdout.split()


def fish(line: str, variables: dict[str, str]) -> list[str]:
    script = f"summarizer -sc install=fish | source; complete -C {line!r}"
    done = subprocess.run(["fish", "-c", script], env=variables, capture_output=True, text=True, timeout=120)
    return done.stdout.split()


def zsh(line: str, variables: dict[str, str]) -> list[str]:
    """What an interactive zsh has on its line after the Tab key; asked for a line with one answer only."""
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], variables)
    try:
        setup = (
            'PS1="> "; autoload -Uz compinit bashcompinit && compinit -u && bashcompinit; '
            'eval "$(summarizer -sc install=zsh)"; echo re""ady\n'
        )
        os.write(terminal, setup.encode())
        read_until(terminal, r"ready\r?\n.*> ")
        os.write(terminal, f"{line}\t".encode())
        return [read_until(terminal, rf"summarizer ({line.split()[-1]}\S+)")]
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


ASK = {"bash": bash, "fish": fish, "zsh": zsh}
LINES = {
    "summarizer provider=mo": "provider=modal",
    "summarizer model=bart_l": "model=bart_large",
    "summarizer optim.label_s": "optim.label_smoothing=",
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes_options_and_keys(shell: str, line: str, variables: dict[str, str]):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    assert ASK[shell](line, variables) == [LINES[line]]


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_all_options_of_a_group_are_offered(shell: str, variables: dict[str, str]):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    offered = ASK[shell]("summarizer provider=", variables)
    assert offered == [f"provider={name}" for name in ("auto", "jarvis", "local", "modal", "runpod", "slurm", "vast")]

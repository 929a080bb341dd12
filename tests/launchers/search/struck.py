"""Runs a sweep of the example app again and again, each time struck by Ctrl-C at another line of the launchers.

python struck.py STRIKES OVERRIDES...    (in the folder of the example app)
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from launchers.dispatch import DispatchingLauncher
from launchers.search.sweeper import Searching

OURS = ("local.py", "dispatch.py", "search/jobs.py", "search/sweep.py", "search/launching.py", "search/closing.py")
QUICK = ["curve.rate=0.1,0.9", "steps=1", "report_every=1", "seconds_per_step=0"]


class Ended(NamedTuple):
    code: int
    said: str
    lines: int
    """Of ours, that the launching thread ran."""


def run(strike: int, folder: Path) -> Ended:
    """The command in a process of its own; Ctrl-C strikes at the line of that number, never for 0."""
    said, count = folder / "said", folder / "lines"
    count.write_text("0")
    if (child := os.fork()) == 0:
        os._exit(_command(strike, said, count))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(code, said.read_text(), int(count.read_text()))


def _command(strike: int, said: Path, count: Path) -> int:
    out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.environ["LAUNCHERS_HOME"] = str(said.parent / "home")
    os.chdir(said.parent)
    for owner, name in ((Searching, "sweep"), (DispatchingLauncher, "launch")):
        setattr(owner, name, _struck(getattr(owner, name), strike, count))
    try:
        runpy.run_module("descent", run_name="__main__")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        return 99
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _struck(method: Callable[..., Any], strike: int, count: Path) -> Callable[..., Any]:
    lines = 0

    def line(frame: FrameType, event: str, value: object) -> object:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == strike:
                os.kill(os.getpid(), signal.SIGINT)
        return line

    def call(frame: FrameType, event: str, value: object) -> object:
        return line if frame.f_code.co_filename.endswith(OURS) and "/launchers/" in frame.f_code.co_filename else None

    def traced(*arguments: Any, **named: Any) -> Any:
        if sys.gettrace() is not None:  # the sweeper has called the launcher
            return method(*arguments, **named)
        sys.settrace(call)
        try:
            return method(*arguments, **named)
        finally:
            sys.settrace(None)
            count.write_text(str(lines))

    return traced


def main(strikes: int, overrides: list[str]) -> None:
    sys.path.insert(0, os.getcwd())
    sys.argv = ["descent", "-m", "hydra.sweep.dir=out", *QUICK, *overrides]
    for module in ("hydra.main", "optuna", "launchers.search.launching", "launchers.local"):  # once for all commands
        importlib.import_module(module)
    whole = run(0, Path(tempfile.mkdtemp()))
    assert whole.code == 0, whole.said
    assert whole.lines > 2 * strikes, f"only {whole.lines} lines of ours ran"
    for number in range(strikes):
        strike, folder = 1 + number * whole.lines // strikes, Path(tempfile.mkdtemp())
        where = f"Ctrl-C at line {strike} of {whole.lines}"
        struck = run(strike, folder)
        assert struck.code == 130, f"{where}: exit code {struck.code}\n{struck.said}"
        assert "Traceback" not in struck.said, f"{where}:\n{struck.said}"
        assert "Interrupted." in struck.said or "Sweep stopped" in struck.said, f"{where}:\n{struck.said}"
        again = run(0, folder)
        assert again.code == 0, f"the same command after {where}: exit code {again.code}\n{again.said}"
    print(f"struck at {strikes} of {whole.lines} lines")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])

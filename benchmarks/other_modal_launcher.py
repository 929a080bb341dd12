"""What `hydra-modal-launcher` does on the emulated Modal: the rows of the comparison in docs/modal.md, run.

    python3 -m venv other && other/bin/pip install hydra-modal-launcher==0.3.0 && other/bin/python benchmarks/other_modal_launcher.py

Run it as root, by the Python of an environment that holds that package and not this project. For each case it prints the exit
code, whether a traceback was shown, the steps that the job printed, and which files are here at the end; then seconds, medians of 5.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from tests.emulators.modal.server import Modal  # noqa: E402

CONFIG = """
defaults: [{override hydra/launcher: modal}, _self_]
steps: 5
seconds_per_step: 0.1
fail_at: null
curve: {target: 7.0, rate: 0.5}
hydra: {launcher: {function: {gpu: A100}}}
"""
REPEATS = 5


class UserEnv:
    def __init__(self, folder: Path, modal: Modal) -> None:
        self.folder, self.modal = folder, modal
        source = (ROOT / "tests/launchers/example/descent/__main__.py").read_text()
        (folder / "conf").mkdir(parents=True)
        (folder / "app.py").write_text(source)
        (folder / "pyproject.toml").write_text("[project]\nname = 'descent'\nversion = '1'\n")
        (folder / "conf/config.yaml").write_text(CONFIG)

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        for name in ("multirun", "outputs"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        own = {"COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
        environment = os.environ | self.modal.variables | own | variables
        return subprocess.Popen(
            [sys.executable, "app.py", *arguments], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def show(self, case: str, process: subprocess.Popen[str]) -> None:
        try:
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        steps = re.findall(r"starts at step \d+|(?<=^step )\d+", output, re.MULTILINE)
        files = sorted({path.name for name in ("multirun", "outputs") for path in (self.folder / name).rglob("*.*")})
        print(f"{case}: exit code {process.returncode}, traceback {'Traceback' in output}")
        print(f"    steps {' '.join(steps)}\n    files {files}\n    applications left {len(self.modal.live_apps())}")
        print(f"    last line: {(output.strip().splitlines() or [''])[-1][:140]}", flush=True)

    def running_for(self, seconds: float) -> None:
        while not self.modal.running():
            time.sleep(0.05)
        time.sleep(seconds)


def disturbed(user_env: UserEnv, act: Callable[[], None], *arguments: str) -> subprocess.Popen[str]:
    process = user_env.start("-m", "steps=20", *arguments)
    user_env.running_for(1.6)
    act()
    return process


def killed(user_env: UserEnv) -> None:
    process = user_env.start("-m", "steps=5000")
    user_env.running_for(1.6)
    process.kill()
    user_env.show("client killed", process)
    began = time.monotonic()
    while user_env.modal.running():
        time.sleep(0.5)
    print(f"    the container was ended {time.monotonic() - began:.0f} s later", flush=True)


def timed(user_env: UserEnv) -> tuple[float, float, float]:
    """Seconds to the first line of the job, from its last line, and altogether."""
    began = time.perf_counter()
    first = last = 0.0
    process = user_env.start("-m")
    assert process.stdout is not None
    for line in process.stdout:
        if "starts at step" in line:
            first = time.perf_counter() - began
        if "step 5 weight" in line:
            last = time.perf_counter()
    process.wait()
    return first, time.perf_counter() - last, time.perf_counter() - began


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, Modal(Path(scratch) / "modal") as modal:
        user_env = UserEnv(Path(scratch) / "project", modal)
        user_env.show("without --multirun", user_env.start("steps=2"))
        user_env.show("sweep of three, one of which fails", user_env.start("-m", "steps=3,4,5", "fail_at=4"))
        user_env.show("unknown card", user_env.start("-m", "hydra.launcher.function.gpu=A1000"))
        user_env.show("no token", user_env.start("-m", MODAL_TOKEN_ID="", MODAL_TOKEN_SECRET=""))
        user_env.show("timeout", user_env.start("-m", "steps=50", "hydra.launcher.function.timeout=1"))
        user_env.show("preemption", disturbed(user_env, modal.preempt))
        user_env.show("crash", disturbed(user_env, modal.crash))
        user_env.show("crash, retries=1", disturbed(user_env, modal.crash, "hydra.launcher.function.retries=1"))
        killed(user_env)
        rows = [timed(user_env) for _ in range(REPEATS + 1)][1:]
        first, rest, whole = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"to the first line {first:.2f} s, from the last line {rest:.2f} s, whole {whole:.2f} s")


if __name__ == "__main__":
    main()

"""The example app in a project folder of its own, and a way to run its command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest

from tests.emulators import cage
from tests.emulators.jarvis import Jarvis
from tests.emulators.runpod import Runpod
from tests.emulators.vast import Vast

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).parent / "example"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A git checkout that holds the example app, not yet committed."""
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    return folder


def environment(**extra: str) -> dict[str, str]:
    """This process's environment with the launchers importable, without any provider's credentials."""
    clean = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_TOKEN"))}
    return clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'launchers'}", "PYTHONUNBUFFERED": "1"} | extra


@pytest.fixture
def descent(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m descent ARGUMENTS` in the project and returns what it printed and its exit code."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "descent", *arguments],
            cwd=project, env=environment(**extra), capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return run


# drawn anew in each run: a literal that looks like a key would be refused by the scan of what ships
CANARIES = {name: f"canary-{token_hex(10)}" for name in ("CANARY_TOKEN", "WANDB_API_KEY", "HF_TOKEN")}


KEY_VARIABLES = {"vast": "VAST_API_KEY", "jarvis": "JL_API_KEY", "runpod": "RUNPOD_API_KEY"}


@dataclass
class UserEnv:
    """A user's place of work: a project, an emulated market, and a ledger of its own."""

    folder: Path
    project: Path
    market: Any
    """A `tests.emulators.served.Served`."""
    provider: str = "vast"
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """Of the environment, where a test wants others than usual."""
    terminal: bool = False
    """Whether commands that are started have a terminal: there a single Ctrl-C detaches."""

    @property
    def home(self) -> Path:
        """The folder of the ledger."""
        return self.folder / "home"

    @property
    def launch(self) -> str:
        """The latest launch in the ledger."""
        rows = json.loads(self.launchers("ps", "--json", "--all").stdout)[0]["jobs"]
        return str(rows[-1]["launch"])

    @property
    def environment(self) -> dict[str, str]:
        own = {KEY_VARIABLES[self.provider]: self.market.key, "LAUNCHERS_HOME": str(self.home), "COLUMNS": "200"}
        return environment(**(own | CANARIES | self.variables))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`python -m descent provider=PROVIDER ARGUMENTS`, not waited for."""
        process = subprocess.Popen(
            [sys.executable, "-m", "descent", *self.arguments(*arguments)],
            cwd=self.project, env=self.environment, text=True,
            stdin=os.openpty()[1] if self.terminal else None, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def arguments(self, *arguments: str) -> list[str]:
        """Options first, as argparse wants them; then what leads every job to the emulated market."""
        own = [f"provider={self.provider}", f"provider.api_url={self.market.url}", f"provider.python={sys.executable}"]
        return [*(a for a in arguments if a[0] == "-"), *own, *(a for a in arguments if a[0] != "-")]

    def run(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "descent", *self.arguments(*arguments)],
            cwd=self.project, env=self.environment, text=True,
            capture_output=True, timeout=timeout,
        )  # fmt: skip

    def launchers(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """`python -m launchers ARGUMENTS`."""
        return subprocess.run(
            [sys.executable, "-m", "launchers", *arguments], cwd=self.project, env=self.environment, text=True,
            capture_output=True, timeout=timeout,
        )  # fmt: skip

    def output(self, number: int = 0) -> Path:
        return self.project / "outputs" / "descent" / str(number)

    def loss(self, number: int = 0) -> float:
        """What a job that came home has reached."""
        return float(json.loads((self.output(number) / "metrics.json").read_text())["loss"])

    def wait_for(self, condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"never happened: {what or condition}"
            time.sleep(0.05)

    def wait_for_step(self, step: int, number: int = 0) -> None:
        """Until the job's log, here, shows that step."""
        log = self.output(number) / "remote.log"

        def reached() -> bool:
            ended = self.processes[-1].poll() is not None and self.processes[-1].stdout
            assert not ended, self.processes[-1].stdout.read()  # type: ignore[union-attr]
            return log.exists() and f"step {step} " in log.read_text()

        self.wait_for(reached, what=f"step {step}")

    def synced_step(self, number: int = 0) -> int:
        """The step of the newest checkpoint that came home; -1 while none has."""
        last = self.output(number) / "checkpoints" / "last.json"
        return int(json.loads(last.read_text())["step"]) if last.exists() else -1


def steps_in(text: str) -> list[int]:
    """The steps that a job of the example app told of."""
    return [int(step) for step in re.findall(r"step (\d+) weight", text)]


def assert_only_needed_variables(user_env: UserEnv) -> None:
    """Two jobs of one sweep, of which the app says that only the second can't do without a token."""
    (user_env.project / "descent" / "needs.py").write_text(
        "def named(config):\n    return ['CANARY_TOKEN'] if config.steps == 2 else []\n"
    )
    source = user_env.project / "descent" / "__main__.py"
    shows = (
        "    import os; print('has', *sorted(n for n in os.environ if n in ('CANARY_TOKEN', 'HF_TOKEN')))\n    loss ="
    )
    source.write_text(source.read_text().replace("    loss =", shows))
    done = user_env.run(
        "-m", "steps=1,2", "provider.pass_environment=[]", "provider.needed_environment=descent.needs:named"
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = [(user_env.output(number) / "remote.log").read_text() for number in (0, 1)]
    assert [re.findall("^has ?(.*)$", text, re.MULTILINE) for text in said] == [[""], ["CANARY_TOKEN"]]


def contents(paths: Iterable[Path]) -> dict[Path, bytes]:
    """What stands in those that are still there and that we may read: a machine may be on its way out."""
    found = {}
    for path in paths:
        with suppress(OSError):
            found[path] = path.read_bytes()
    return found


def contents_below(*places: Path) -> dict[Path, bytes]:
    below = (Path(folder, name) for place in places for folder, _, names in os.walk(place) for name in names)
    return contents(path for path in below if path.is_file())


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


@contextmanager
def opened(user_env: UserEnv) -> Iterator[UserEnv]:
    """A user_env while its market is open; what it started is ended."""
    with user_env.market:
        try:
            yield user_env
        finally:
            for process in user_env.processes:
                process.kill()
                process.wait()


MARKETS: dict[str, Callable[[Path], Any]] = {"vast": Vast, "jarvis": Jarvis, "runpod": Runpod}
on_every_market = pytest.mark.parametrize("user_env", list(MARKETS), indirect=True)
"""What every provider of machines must pass."""


@pytest.fixture
def user_env(project: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[UserEnv]:
    """On an emulated market: Vast.ai, unless the test asks for another."""
    reason = cage.why_not()
    if reason:
        pytest.skip(reason)
    provider = getattr(request, "param", "vast")
    with opened(UserEnv(tmp_path, project, MARKETS[provider](tmp_path / "market"), provider)) as user_env:
        yield user_env

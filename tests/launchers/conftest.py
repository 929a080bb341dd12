"""The example app in a project folder of its own, and a way to run its command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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

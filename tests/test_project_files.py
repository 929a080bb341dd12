"""What people and tools look for beside the code: versions agree, commands are those of README, files parse."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COMMANDS = [line for line in (ROOT / "README.md").read_text().split("```")[1].splitlines()[1:] if line]


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name)
def test_what_github_reads_is_yaml(path: Path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_workflow_calls_the_same_check_as_every_other_place():
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]["steps"]
    assert ".ci/run" in steps[-1]["run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_citation_and_changelog_name_the_version():
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()


def test_commits_are_checked_by_the_formatter_that_is_installed():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    [ruff] = [repo["rev"] for repo in hooks if "ruff" in repo["repo"]]
    assert f"ruff=={ruff.removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("verb", "command"), [("train", COMMANDS[0]), ("test", COMMANDS[1])])
def test_a_verb_of_make_does_what_readme_says(verb: str, command: str):
    done = subprocess.run(["make", "--dry-run", "--always-make", verb], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    create, _, run = command.split(" && ")
    assert said[0] == create
    assert said[1].startswith(".venv/bin/pip install -c constraints.txt -e")
    assert said[-1] == run


def test_make_has_five_verbs_and_the_image_installs_and_runs_by_them():
    verbs = re.search(r"\.PHONY: (.*)", (ROOT / "Makefile").read_text())
    assert verbs is not None
    assert len(verbs[1].split()) == 5
    image = (ROOT / "Dockerfile").read_text()
    assert "RUN make install" in image
    assert ".venv/bin/python" in image

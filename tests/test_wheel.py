"""The built wheel, run in another folder, is the whole program."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=240)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds only what the wheel brings; what it needs is in this environment."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(installed, cwd, *arguments, text=None):
    environment = os.environ | {"PYTHONPATH": str(installed), "SUMMARIZER_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, input=text, capture_output=True, text=True, timeout=240
    )


def test_both_packages_and_the_plugins_come_from_the_wheel(installed, tmp_path):
    code = "import summarizer, launchers, hydra_plugins.launchers_plugin as p; print(summarizer.__file__, launchers.__file__, p.__file__)"
    files = run(installed, tmp_path, "-c", code).stdout.split()
    assert len(files) == 3
    assert all(file.startswith(str(installed)) for file in files)


def test_it_composes_with_the_conf_inside_it(installed, tmp_path):
    done = run(installed, tmp_path, "-m", "summarizer", "hardware=4090", "model=t5_small", "--cfg", "job")
    assert done.returncode == 0, done.stderr
    assert "google-t5/t5-small" in done.stdout
    assert "usage" in run(installed, tmp_path, "-m", "launchers", "--help").stdout.lower()


def test_it_summarizes_with_the_shipped_model_before_any_training(installed, tmp_path):
    text = "Soundpad is a program that edits sound files. It cuts, joins and filters recordings, and it reads many formats."
    done = run(installed, tmp_path, "-m", "summarizer", "task=predict", "input=-", "hardware=cpu", text=text)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1
    assert {"sound", "program", "edit", "edits", "recordings", "Soundpad"} & set(lines[0].split())
    assert not (tmp_path / "outputs").exists()


def test_it_carries_no_corpus_and_stays_small(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert not [name for name in names if name.endswith((".parquet", ".jsonl", ".arrow", ".csv"))]
    assert wheel.stat().st_size < 12_000_000

"""The notebook in docs/: its cells run, in order, in one process. They are plain Python, so no Jupyter is needed to run them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.summarizer.jobs import ROOT, environment

NOTEBOOK = ROOT / "docs" / "summarizer.ipynb"


def cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_every_cell_is_plain_python_and_the_file_holds_no_output() -> None:
    content = json.loads(NOTEBOOK.read_text())
    assert content["nbformat"] == 4
    for source in cells():
        compile(source, str(NOTEBOOK), "exec")
    assert all(not cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code")


@pytest.mark.slow
@pytest.mark.turns(2)
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    program = tmp_path / "notebook.py"
    program.write_text("\n\n".join(cells()))
    done = subprocess.run(
        [sys.executable, str(program)], cwd=tmp_path, env=environment(tmp_path / "cache"), capture_output=True, text=True,
        timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "report.html" in done.stdout

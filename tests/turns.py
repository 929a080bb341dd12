"""Tests that a commit tries in turns: another share of them than the commit before, most likely, and the same at each run.

`@pytest.mark.turns(3)`, or `pytestmark` of a file: every third of its slow tests. All of them with ALL_CELLS=1.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ALL = "ALL_CELLS" in os.environ


def turn(turns: int) -> int:
    """The share of this commit, from 0 to `turns` - 1."""
    here = Path(__file__).parent
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip()
    return int(commit or "0", 16) % turns

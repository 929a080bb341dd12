"""Workers of one test run share the cores: each computes with its part of them. Some slow tests take turns, see `turns`."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.turns import ALL, turn

workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if workers > 1:  # before torch is imported, here and in the processes that tests start
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out slow tests whose turn it is not, unless files or tests are named on the command line."""
    if ALL or list(config.args) != list(config.getini("testpaths")):
        return
    numbers: Counter[str] = Counter()
    kept, left = [], []
    for item in items:
        mark = item.get_closest_marker("turns")
        if mark is None or item.get_closest_marker("slow") is None:
            kept.append(item)
            continue
        numbers[item.nodeid.partition("::")[0]] += 1
        is_due = numbers[item.nodeid.partition("::")[0]] % mark.args[0] == turn(mark.args[0])
        (kept if is_due else left).append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = kept

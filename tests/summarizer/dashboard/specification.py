"""What a stored W&B view reads of its runs, taken from the specification that a server got."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.emulators.wandb_server import StoredRun


def panels_of(spec: str) -> list[dict[str, Any]]:
    """All panels, of a workspace or of a report."""
    found: list[dict[str, Any]] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "viewType" in node and "config" in node:
                found.append(node)
                return
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(json.loads(spec))
    return found


def needs(panel: dict[str, Any]) -> list[tuple[str, ...]]:
    """Groups of names that the panel needs together in one logged row: `summary:` and `config:` names stand alone."""
    config = panel["config"]
    match panel["viewType"]:
        case "Run History Line Plot":
            return [(metric, config["xAxis"]) for metric in config["metrics"]]
        case "Bar Chart":
            grouped = [(f"config:{config['groupBy']}",)] if "groupBy" in config else []
            return [(metric,) for metric in config["metrics"]] + grouped
        case "Scatter Plot":
            return [(config["xAxis"],), (config["yAxis"],)]
        case "Parallel Coordinates Plot":
            return [(column["accessor"],) for column in config["columns"]]
        case "Parameter Importance":
            return [(config["targetKey"],)]
        case "Weave":
            return [(config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"],)]
        case "Run Comparer":
            return []
    raise AssertionError(f"a kind of panel that no test knows: {panel['viewType']}")


def columns(spec: str) -> Iterator[str]:
    """Pinned columns of all tables of runs."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            yield from (name for name, pinned in node.get("columnPinned", {}).items() if pinned)
            for value in node.values():
                yield from walk(value)
        elif isinstance(node, list):
            for item in node:
                yield from walk(item)

    return (name for name in walk(json.loads(spec)) if not name.startswith("run:"))


def has(run: StoredRun, names: tuple[str, ...]) -> bool:
    """Whether the run logged all of these in one row, or has the one config entry."""
    [first, *_] = names
    if first.startswith("config:"):
        entry, value, *path = first.removeprefix("config:").split(".")
        assert value == "value", f"{first}: W&B keeps entries beneath `value`"
        node: Any = run.config.get(entry)
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node is not None
    plain = [name.removeprefix("summary:") for name in names]
    return any(all(row.get(name) is not None for name in plain) for row in run.history.values())

"""Settings that differ between runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from summarizer.report.records import RunRecord

NOT_SETTINGS = ("run", "resume", "input", "runs", "output", "task", "rerun", "predict", "report", "data.cache_dir")
"""Keys that say what a command did, not what a model is."""
DERIVED = "recipe"
"""`model.recipe` gives defaults to `optim`, `trainer` and others: what it gave stands there."""
MISSING = "-"


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mapping -> dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def settings(run: RunRecord) -> dict[str, Any]:
    """What a result may depend on, by dotted key."""
    flat = flatten(run.config)
    return {
        key: value
        for key, value in flat.items()
        if key.split(".")[0] not in NOT_SETTINGS and key not in NOT_SETTINGS and f".{DERIVED}." not in f".{key}."
    }


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """Keys whose values differ, in the order of the config; those named on a command line first.

    Where the command lines explain a difference, only what they name is listed: `model=t5_small` changes forty keys.
    """
    flats = [settings(run) for run in runs]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    changed = [key for key in keys if len({repr(flat.get(key, MISSING)) for flat in flats}) > 1]
    named = {override.lstrip("+~").partition("=")[0].split("@")[0] for run in runs for override in run.overrides}
    exact = [key for key in changed if key in named]
    groups = [f"{name}.name" for name in named if f"{name}.name" in changed]
    if not exact and not groups:
        return changed
    explained = {key for key in changed if key in exact or key.partition(".")[0] in named}
    return [*groups, *exact, *(key for key in changed if key not in explained)]


def value_of(run: RunRecord, key: str) -> Any:
    """The value of a dotted key; `MISSING` where a run has none."""
    return settings(run).get(key, MISSING)


def show(value: Any) -> str:
    """A value as a person types it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def version_notes(runs: Sequence[RunRecord]) -> list[str]:
    """One sentence per part whose version differs between runs: a difference in figures may come from there."""
    versions: list[dict[str, str]] = []
    for run in runs:
        found = run.provenance.get("versions")
        packages = {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
        commit = run.provenance.get("commit")
        code = {"code": f"{str(commit)[:9]}{' with changes' if run.provenance.get('dirty') else ''}"} if commit else {}
        versions.append(code | packages)
    notes = []
    for part in dict.fromkeys(name for found in versions for name in found):
        counted = Counter(found.get(part, "unknown") for found in versions)
        if len(counted) > 1:
            listed = ", ".join(f"{version} ({count})" for version, count in counted.most_common(4))
            notes.append(f"{part}: {listed}{', ...' if len(counted) > 4 else ''}")
    return notes

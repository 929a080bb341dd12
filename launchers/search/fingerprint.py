"""What makes a job the same job: its composed config without this side's keys, the app's code, and its data."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTH = 16
"""Characters of a digest that are kept."""


@dataclass(frozen=True)
class Fingerprint:
    """Two jobs of one `config` are the same job; a result of other `code` or `data` is another result of it."""

    config: str
    code: str
    data: str


def config_digest(config: Mapping[str, Any], ignore: Iterable[str]) -> str:
    """Digest of a composed config, as text and unresolved, without the dotted keys of `ignore`."""
    ignored = {tuple(key.split(".")) for key in ignore} | {("hydra",)}
    return _digest(json.dumps(_without(config, ignored, ()), sort_keys=True, default=str).encode())


def _without(node: Any, ignored: set[tuple[str, ...]], path: tuple[str, ...]) -> Any:
    if not isinstance(node, Mapping):
        return node
    return {
        str(key): _without(value, ignored, (*path, str(key)))
        for key, value in node.items()
        if (*path, str(key)) not in ignored
    }


def code_digest(packages: Iterable[str], directory: Path) -> str:
    """Digest of the app's own Python files: of its packages, wherever they are installed, or of a script in `directory`."""
    digest = hashlib.sha256()
    for name in sorted(packages):
        for root, file in _sources(name, directory):
            digest.update(f"{name}/{file.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:LENGTH]


def _sources(name: str, directory: Path) -> list[tuple[Path, Path]]:
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        roots = [Path(place) for place in spec.submodule_search_locations]
        return [(root, file) for root in roots for file in sorted(root.rglob("*.py"))]
    alone = Path(spec.origin) if spec is not None and spec.origin else directory / f"{name}.py"
    return [(alone.parent, alone)] if alone.is_file() else []


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:LENGTH]

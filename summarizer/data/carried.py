"""Prepared data that travels with a job: what was built here is not built again, or differently, on another machine.

The cache notes which of its folders a config led to; who sends a job elsewhere asks `to_carry` for them, and names the
folder that they arrived in by `CARRIED_DATA`. It has the cache's layout and is only read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from summarizer.data.store import cache_root, read_mark, write_note

NOTES = "prepared"
SHAPES_TOKENS = (
    "architecture", "hub_id", "revision", "source_prefix", "source_suffix", "max_source_tokens", "max_target_tokens",
)  # fmt: skip
"""Of the model's settings; a copy transformer's vocabulary is learned, and only its size is chosen."""


def to_carry(config: DictConfig) -> dict[str, Path]:
    """What of this machine's cache a job of this config would read, the most needed first.

    A corpus that was built here comes before the token ids: of another Debian release, or other installed packages, another
    machine would build another corpus. Light: a launcher calls it while it plans.

    Returns:
        Path in the carried folder -> file or folder here; empty where nothing has been prepared.
    """
    cache = cache_root(config.data.cache_dir)
    found: dict[str, Path] = {}
    for note in (_corpus_note(cache, config.data.kind), _tokens_note(config)):
        for name in _read(cache / note).get("folders", []):
            if read_mark(cache / name) is not None:
                found |= {note: cache / note, name: cache / name}
    return found


@dataclass(frozen=True)
class Note:
    """What a config led to: folders of the cache's layout."""

    name: str
    content: bytes
    folders: list[str]


def notes_of(config: DictConfig, read: Callable[[str], bytes | None]) -> list[Note]:
    """The notes of a config in a copy of the cache that lies elsewhere, by a function that reads one."""
    kinds = ("debsum", "docstrings") if config.data.kind == "auto" else (config.data.kind,)
    found = []
    for name in [*(f"{NOTES}/corpus-{kind}.json" for kind in kinds), _tokens_note(config)]:
        content = read(name)
        if content is not None and (folders := _parsed(content).get("folders", [])):
            found.append(Note(name, content, [str(folder) for folder in folders]))
    return found


def carried(name: str) -> Path | None:
    """A whole folder of the cache's layout that came along with this job."""
    root = os.environ.get("CARRIED_DATA")
    return Path(root, name) if root and read_mark(Path(root, name)) is not None else None


def carried_corpus(kind: str) -> tuple[str, Path] | None:
    """Name and folder of the built corpus that came along for a `data.kind`."""
    root = os.environ.get("CARRIED_DATA")
    note = _read(Path(root, _corpus_note(Path(root), kind))) if root else {}
    folder = carried(note["folders"][0]) if note else None
    return (note["name"], folder) if folder else None


def note_corpus(cache: Path, kind: str, name: str, folder: Path) -> None:
    """Remember which folder of the cache is the built corpus of a `data.kind`, and of that name."""
    for asked in {kind, name}:
        _note(cache, f"{NOTES}/corpus-{asked}.json", [folder], name=name)


def note_tokens(config: DictConfig, folders: Sequence[Path]) -> None:
    """Remember which folders of the cache hold the token ids that a config led to."""
    _note(cache_root(config.data.cache_dir), _tokens_note(config), folders)


def _note(cache: Path, note: str, folders: Sequence[Path], **more: str) -> None:
    # A folder that came along is not this cache's to give.
    own = [folder.relative_to(cache).as_posix() for folder in folders if folder.is_relative_to(cache)]
    if own:
        write_note(cache / note, {"folders": own} | more)


def _read(note: Path) -> dict[str, Any]:
    try:
        return _parsed(note.read_bytes())
    except OSError:
        return {}


def _parsed(note: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(note))
    except (ValueError, TypeError):
        return {}


def _corpus_note(cache: Path, kind: str) -> str:
    """`auto` takes debsum where there is one, as it does when it builds."""
    debsum = f"{NOTES}/corpus-debsum.json"
    return debsum if kind == "auto" and (cache / debsum).exists() else f"{NOTES}/corpus-{kind}.json"


def _tokens_note(config: DictConfig) -> str:
    data, model = (OmegaConf.to_container(config[group], resolve=True) for group in ("data", "model"))
    assert isinstance(data, dict)
    assert isinstance(model, dict)
    key: list[Any] = [
        {k: v for k, v in data.items() if k != "cache_dir"},
        {name: model[name] for name in SHAPES_TOKENS},
    ]
    key.append((model["shape"] or {}).get("vocab_size"))
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:16]
    return f"{NOTES}/tokens-{digest}.json"
